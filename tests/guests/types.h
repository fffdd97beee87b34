/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TYPES_H
#define TYPES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define PAGE_SIZE	0x1000ull
#define PAGE_MASK	(~(PAGE_SIZE - 1))
#define MIB		0x100000ull
#define BIT(n)		(1ull << (n))
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

#endif
