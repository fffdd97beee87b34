/* SPDX-License-Identifier: GPL-2.0-or-later */
/* States of EPT12, of the pointer to it, and of L1's memory under it. */
#include "console.h"
#include "cpu.h"
#include "page.h"
#include "ports.h"
#include "states.h"

#define APIC_VERSION		0x30
#define VIRTUAL_APIC_PAGE	(OTHER_DATA + 15 * PAGE_SIZE)
#define TABLE_IN_SLOT		(MOVED_SLOT + 8 * PAGE_SIZE)

extern const char s_out[], s_read_long[];

/*
 * L1 has loaded a fresh VMCS and written its fields, and has not entered.  With VMCS shadowing most of
 * them are still where KVM has not looked.
 */
void state_composing(u64 *ept12)
{
	begin(ept12, false);
	park_l1("composing");
	probe_kinds("plain", TREE);
}

/*
 * L1 goes from one EPT12 to another of the same level; then it writes a pointer that L2 has used
 * before, one that it never has, and this one with accessed and dirty flags, and enters with none.
 */
void state_eptp(u64 *ept12)
{
	u64 *second = new_ept12(OTHER_DATA), *third = new_ept12(OTHER_DATA);

	begin(ept12, false);
	probe_kinds("plain", TREE);
	vmwrite(EPT_POINTER, eptp_of(second, false));
	probe_kinds("plain", TREE);
	park_l2("eptp-switched");
	probe_kinds("plain", TREE);
	vmwrite(EPT_POINTER, eptp_of(ept12, false));
	park_l1("eptp-written");
	probe_kinds("plain", TREE);
	vmwrite(EPT_POINTER, eptp_of(third, false));
	park_l1("eptp-new");
	probe_kinds("plain", TREE);
	if (!(ept_vpid_cap() & EPT_CAP_AD))
		return;
	vmwrite(EPT_POINTER, eptp_of(third, true));
	park_l1("eptp-ad");
	invept_context(eptp_of(third, true));
	probe_kinds("plain", TREE);
}

/* ---- accessed and dirty flags ---- */

static void say_flags(const char *at)
{
	u64 written = *ept_entry(DATA_GPA, 1), read = *ept_entry(DATA_GPA + KIND_RW * PAGE_SIZE, 1);

	say("{'flags': {'at': '%s', 'written': '%x', 'read': '%x'}}\n", at, written, read);
}

static void use_pages(const char *at)
{
	probe("rwx", "plain", OP_WRITE, TREE);
	probe("rw", "plain", OP_READ, TREE + KIND_RW * PAGE_SIZE);
	say_flags(at);
}

static void clear_flags(void)
{
	ept_change(DATA_GPA, 1, EPT_DIRTY, 0);
	ept_change(DATA_GPA + KIND_RW * PAGE_SIZE, 1, EPT_ACCESSED | EPT_DIRTY, 0);
}

/* L1 clears the flags of pages that L2 has used, and forgets INVEPT; then it does not. */
void state_dirty(u64 *ept12)
{
	if (!(ept_vpid_cap() & EPT_CAP_AD))
		return;
	begin(ept12, true);
	use_pages("used");
	clear_flags();
	say_flags("cleared");
	park_l1("ad-cleared");
	use_pages("used without INVEPT");
	clear_flags();
	invept_context(eptp_of(ept12, true));
	say_flags("cleared, INVEPT");
	park_l1("ad-invept");
	use_pages("used after INVEPT");
}

/* ---- the local APIC ---- */

static void probe_long(const char *kind, u64 linear)
{
	probe_at(kind, "long", OP_READ, linear, stub64(s_read_long));
}

/*
 * EPT12 maps two pages where KVM has memory of its own in L1's address space: that of the APIC, and
 * that of a TSS for real mode.  L2 is not to see either.  Then L1 virtualizes the APIC by itself.
 */
void state_apic(u64 *ept12)
{
	struct vmx_controls controls = usual_controls;
	u64 *own = new_ept12(DATA);

	ept_map(APIC, VIRTUAL_APIC_PAGE, RWX_WB, 1, 1);
	eptp_of(ept12, false);
	ept_map(APIC, APIC, EPT_RIGHTS, 1, 1);
	ept_map(TSS_PAGE, TSS_PAGE, RWX_WB, 1, 1);
	begin(ept12, false);
	say("{'apic': {'version': '%x'}}\n", (u64)*(volatile u32 *)(APIC + APIC_VERSION));
	probe_long("apic", APIC + APIC_VERSION);
	probe_long("tss", TSS_PAGE);
	park_l2("apic-page");
	probe_long("apic", APIC + APIC_VERSION);
	probe_long("tss", TSS_PAGE);
	controls.cpu2 |= CPU2_VIRTUAL_APIC_ACCESSES;
	if (!controls_offered(CPU_CONTROLS_2, controls.cpu2))
		return;
	begin(own, false);
	vmcs_controls(&controls);
	vmwrite(APIC_ACCESS_ADDRESS, VIRTUAL_APIC_PAGE);
	probe_long("rwx", TREE);
	park_l2("apic-virtual");
	probe_long("apic", APIC + APIC_VERSION);
}

/* ---- memslots ---- */

static void probe_slot(void)
{
	probe("slot", "page", OP_READ, SLOT_GPA);
	probe("moved", "page", OP_READ, MOVED_GPA);
	probe("under", "slot", OP_READ, UNDER_SLOT_GPA);
	probe("under", "slot", OP_WRITE, UNDER_SLOT_GPA);
	probe("rwx", "plain", OP_WRITE, TREE);
	probe("r", "plain", OP_WRITE, TREE + KIND_R * PAGE_SIZE);
}

/* The VMM does it, and parks before L2 goes on. */
static void change_slot(const char *name, u32 what)
{
	before_l2_parks(name);
	registers.r8 = what;
	registers.rdx = PORT_SLOT;
	run_l2("slot", stub64(s_out));
}

/*
 * The VMM takes a memslot away while L2 runs, puts it back, and moves it.  A page of it is mapped by
 * EPT12, and so is one whose table of EPT12 lies in it.
 */
void state_slots(u64 *ept12)
{
	const struct scenario_region table = {
		.l2gpa = UNDER_SLOT_GPA, .bits = TABLE_IN_SLOT | EPT_RIGHTS, .count = 1, .level = 2,
		.kind = REGION_RAW,
	};

	eptp_of(ept12, false);
	ept_map(SLOT_GPA, MOVED_SLOT, RWX_WB, 1, 1);
	ept_map(MOVED_GPA, MOVED_TO, RWX_WB, 1, 1);
	ept_add(&table, false);
	ept_map(UNDER_SLOT_GPA, DATA, RWX_WB, 1, 1);
	*(volatile u64 *)MOVED_SLOT = page_signature(MOVED_SLOT);
	begin(ept12, false);
	probe_slot();
	set_ept12_hidden(true);
	change_slot("slot-deleted", SLOT_DELETE);
	probe_slot();
	park_l2("slot-absent");
	probe_slot();
	change_slot("slot-back", SLOT_BACK);
	probe_slot();
	change_slot("slot-moved", SLOT_MOVE);
	probe_slot();
}
