/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef L1_H
#define L1_H

#include "types.h"

/* What this L1 is for: cases.c or states.c has it.  `vmm`: there is a VMM to park and to report to. */
void l1_run(bool vmm);

#endif
