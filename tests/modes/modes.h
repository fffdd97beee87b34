/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file of cases that scenario.py writes, and the records that run.py reads.  All numbers are
 * little-endian, addresses are L1's; change a structure here and there together.
 */
#ifndef MODES_H
#define MODES_H

#include "types.h"

#define MODES_MAGIC	0x3153444d5450454eull	/* "NEPTMDS1" */
#define MOST_ENTRIES	5
#define MOST_PATCHES	24

struct modes_table {
	u32 offset;		/* from the start of the file */
	u32 count;
};

struct modes_file {
	u64 magic;
	u64 arena, arena_end;	/* L1 memory that is L2's, or tables of either */
	u64 eptp;
	u64 code;		/* the page that the stubs of L2 are copied to */
	u32 pages, first_page;	/* consecutive frames that hold a signature */
	struct modes_table words, modes, paths, cases, patches;
};

/* What lies in memory before the first case. */
struct modes_word {
	u64 value;
	u32 address;
	u32 size;		/* 4 or 8 bytes */
};

/* L2's registers. */
struct modes_mode {
	u64 cr0, cr3, cr4, efer, rflags;
	u64 pdpte[4];
	u64 code;		/* linear address of the page with the stubs */
	u32 pkru, pkrs;
	u8 cpl;
	u8 bits;		/* 16, 32, 64: the kind of code */
	u8 unused[6];
};

/* L2's own entries for one linear address, top level first. */
struct modes_path {
	u32 entry[MOST_ENTRIES];
	u8 count;
	u8 size;		/* of an entry */
	u16 unused;
};

enum modes_op {
	OP_READ, OP_WRITE, OP_RMW, OP_FETCH,
	OP_IMPLICIT,		/* a selector is loaded: L2's GDT is read, and its entry written */
	OP_STACK_READ,		/* INCSSP: the entry of the shadow stack at SSP is read */
	OP_STACK_WRITE,		/* WRSS, to the shadow stack */
	OP_STACK_WRITE_USER,	/* WRUSS, the supervisor's to a user's shadow stack */
	OP_COUNT
};

#define CASE_AD		0x01	/* EPTP bit 6 */
#define CASE_EPT	0x02	/* a patch is on an entry of EPT12 */

struct modes_case {
	u64 linear;
	u32 patch;		/* first patch */
	u16 mode;
	u8 patches;
	u8 op;
	u8 flags;
	u8 path;
	u16 unused;
	u32 also_unused;
};

/* A patch is a modes_word. */

enum outcome {
	OUTCOME_NONE,
	OUTCOME_EXIT,
	OUTCOME_TRANSLATED,
	OUTCOME_SKIPPED,	/* in the count only */
	OUTCOME_COUNT
};

/* Of each case that was run. */
struct modes_record {
	u32 number;
	u8 outcome;
	u8 unused;
	u16 reason;
	u64 qualification;
	u64 gpa, gla;		/* not of exceptions */
	u64 value;		/* what was read; of an exception: error code << 32 | interruption */
	u64 written;		/* the page with what was written, or 0 */
	u64 entry[MOST_ENTRIES];	/* L2's own, after the access */
};

#endif
