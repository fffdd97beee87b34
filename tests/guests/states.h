/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * states.elf: L1 brings KVM into one state after the other in which hypervisors that are used
 * leave it, and parks in each.  What L2 does behind a park point, and what comes of it, is in the
 * log under the name of the point: so the log tells what has to be predicted from the state.  (All
 * but the lines named "changed-…", for which L1 changes its tables for a moment.)
 *
 *	states.c		L2's pages and tables, accesses and park points, the order
 *	states_registers.c	L2's registers, and the controls that decide who keeps them
 *	states_tables.c		EPT12, and L1's memory under it
 */
#ifndef STATES_H
#define STATES_H

#include "ept.h"
#include "scenario.h"
#include "types.h"
#include "vmx.h"

/* Where things lie in L1's memory; all of it is L2's as well, at the same address. */
#define HOME		(16 * MIB)		/* code, stack, page tables */
#define HOME_PAGES	32
#define DATA		(HOME + 128 * 1024)	/* pages of KIND_COUNT kinds, */
#define OTHER_DATA	(DATA + 64 * 1024)	/* and once more */
#define TABLES		(HOME + 512 * 1024)	/* L2's page tables for the pages of each kind */
#define PAE_TABLES	(HOME + 640 * 1024)
#define MOVED_SLOT	(96 * MIB)		/* a memslot that the VMM takes away */
#define MOVED_TO	(112 * MIB)

/* Where L2 has them. */
#define DATA_GPA	0x02000000ull
#define TABLES_GPA	0x02800000ull
#define SLOT_GPA	0x02400000ull		/* a page of the memslot, */
#define MOVED_GPA	0x02410000ull		/* the place it is moved to, */
#define UNDER_SLOT_GPA	0x04000000ull		/* a page whose EPT12 table lies in it */
#define APIC		0xfee00000ull
#define TSS_PAGE	0xfffbd000ull		/* of KVM's own, for real mode */
#define TREE		0x600000000000ull	/* linear addresses of the pages of each kind, */
#define TREE_NX		(TREE + 32 * PAGE_SIZE)	/* and with NX in L2's tables */

#define EPT_R		1ull
#define EPT_W		2ull
#define EPT_X		4ull
#define EPT_WB		(6ull << 3)
#define EPT_ACCESSED	BIT(8)
#define EPT_DIRTY	BIT(9)
#define RWX_WB		(EPT_RIGHTS | EPT_WB)

/* A page for each, in this order, at DATA_GPA. */
enum kind { KIND_RWX, KIND_R, KIND_RX, KIND_RW, KIND_HOLE, KIND_W, KIND_COUNT };
extern const char *const kind_name[KIND_COUNT];

/* An EPT12 with L2's home, the pages of each kind from L1's `data` on, and L2's tables. */
u64 *new_ept12(u64 data);
void ept_map(u64 gpa, u64 l1gpa, u64 bits, u32 level, u32 count);
void ept_change(u64 gpa, u32 level, u64 clear, u64 set);

/* A fresh VMCS for a 64-bit L2 with this EPT12. */
void begin(u64 *ept12, bool ad);
u64 eptp_of(u64 *ept12, bool ad);

/* L2 at its instruction `rip`; false if it did not come to its VMCALL, which is then said. */
extern struct guest_registers registers;
u64 stub64(const char *stub);
u64 stub32(const char *stub);
bool run_l2(const char *name, u64 rip);
u64 l2_read_msr(u32 msr);
void l2_write_msr(u32 msr, u64 value);

/* One access of L2's, and a line on what came of it. */
void probe(const char *kind, const char *page, u32 op, u64 linear);
void probe_at(const char *kind, const char *page, u32 op, u64 linear, u64 rip);
/* All of OP_READ, OP_WRITE, OP_FETCH on a page of each kind. */
void probe_kinds(const char *page, u64 linear);

void set_pae(bool on);
/* EPT12 is not said at park points: a table of it may be nowhere. */
void set_ept12_hidden(bool on);
void park_l1(const char *state);
/* L2 does OUT at `rip`: to park, or (`slot_port`) to have the VMM do something to the memslot. */
u16 park_port(void);
void before_l2_parks(const char *state);
void park_l2(const char *state);
bool under_vmm(void);

/* The states. */
void state_nx(u64 *ept12);
void state_pae(void);
void state_controls(u64 *ept12);
void state_composing(u64 *ept12);
void state_eptp(u64 *ept12);
void state_dirty(u64 *ept12);
void state_apic(u64 *ept12);
void state_slots(u64 *ept12);

#endif
