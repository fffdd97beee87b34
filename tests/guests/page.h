/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef PAGE_H
#define PAGE_H

#include "types.h"

#define PAGE_CODE_OFFSET	8

/* What the first 8 bytes of a page hold that is mapped for L2: they tell where it lies in L1. */
u64 page_signature(u64 l1gpa);
/* The page without its signature: code that returns the signature's low half, and code at the end. */
void page_prepare(u64 l1gpa);

#endif
