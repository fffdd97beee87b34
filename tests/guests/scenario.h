/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scenario file: what scenarios.py writes, and L1 reads where the boot loader put it.
 * All tables lie in the file one after the other, little-endian; L1 never copies them, so their
 * length is limited by memory alone.  Change a structure here and in scenarios.py together.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "types.h"

#define SCENARIO_MAGIC		0x314e43535450454eull	/* "NEPTSCN1" */

struct scenario_table {
	u32 offset;		/* from the start of the file */
	u32 count;
};

struct scenario_file {
	u64 magic;
	u64 arena, arena_end;	/* L1 memory that belongs to the landscape */
	u64 home;		/* L2's code, stack and page tables: L2 GPA = L1 GPA */
	u64 home_end;
	struct scenario_table regions, maps, pages, cases, patches, strings;
};

/* What must be there for a record to count; otherwise L1 says that it skips it. */
#define NEEDS_EXECUTE_ONLY	0x01	/* IA32_VMX_EPT_VPID_CAP bit 0 */
#define NEEDS_1G		0x02	/* bit 17 */
#define NEEDS_AD		0x04	/* bit 21 */
#define NEEDS_WINDOW		0x08	/* RAM at 64..68 MiB */
#define NEEDS_VMM		0x10	/* the VMM's holes and its read-only slot */
#define NEEDS_WIDE		0x20	/* MAXPHYADDR over 39: a second PML4E can be reached */

/* A piece of EPT12. */
#define REGION_LEAF		0	/* entry i = base + i * (size of a leaf) | bits */
#define REGION_RAW		1	/* entry = bits, as they are */
#define REGION_ADJUST		2	/* entry = (entry & base) | bits */

struct scenario_region {
	u64 l2gpa;
	u64 base;
	u64 bits;
	u32 count;
	u8 level;
	u8 kind;
	u8 needs;
	u8 beyond;		/* also set the first bit over the physical-address width */
};

/* A piece of L2's own page tables. */
struct scenario_map {
	u64 linear;
	u64 gpa;
	u64 bits;
	u64 tables_gpa;		/* tables that have to be added are taken from here on: */
	u64 tables_l1gpa;	/* L2 GPA and L1 GPA; 0, 0 means from home */
	u32 count;
	u8 level;
	u8 needs;
	u16 unused;
};

/* A page that holds a signature. */
struct scenario_page {
	u64 l2gpa;
	u64 linear;
	u64 l1gpa;
	u8 needs;
	u8 by_l2;		/* EPT12 lets L2 write it */
	u8 unused[6];
};

enum scenario_op {
	OP_READ,		/* MOV from memory, 8 bytes */
	OP_WRITE,		/* MOV to memory, 8 bytes */
	OP_RMW,			/* LOCK XADD, 8 bytes */
	OP_FETCH,		/* RIP = the address */
	OP_OUTS,		/* OUTSB: the access of an I/O instruction */
	OP_INS,			/* INSB */
	OP_COUNT
};

#define CASE_AD			0x01	/* EPTP bit 6 */
#define CASE_USER		0x02	/* at CPL 3 */
#define CASE_PARK		0x04	/* the case whose exit is shown at the park point */
#define NO_NAME			0xffffffffu

struct scenario_case {
	u64 linear;
	u32 name;		/* offset in the strings */
	u32 patch;		/* first patch */
	u8 patches;		/* how many */
	u8 op;
	u8 flags;
	u8 needs;
	u32 unused;
};

/* An entry changed for the time of one case: (entry & keep) | set. */
#define PATCH_EPT		0	/* EPT12, path of the data's L2 GPA */
#define PATCH_WALK		1	/* EPT12, path of L2's paging entry of level `walk` */
#define PATCH_GUEST		2	/* L2's own paging entry */
#define PATCH_NEXT		3	/* EPT12, path of the L2 GPA of the page behind the data's */

struct scenario_patch {
	u64 keep;
	u64 set;
	u8 space;
	u8 level;
	u8 walk;
	u8 beyond;		/* as in a region */
	u32 unused;
};

#endif
