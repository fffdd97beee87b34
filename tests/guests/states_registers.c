/* SPDX-License-Identifier: GPL-2.0-or-later */
/* States of L2's registers: who loads them at VM entry, and who keeps them at a VM exit. */
#include "console.h"
#include "cpu.h"
#include "memory.h"
#include "ports.h"
#include "states.h"

#define MSR_DEBUGCTL		0x1d9
#define DEBUGCTL_BTF		BIT(1)
#define EFER_64			(EFER_LME | EFER_LMA)
#define PAT_USUAL		0x0007040600070406ull
#define PAT_OTHER		0x0606060606060606ull
#define DR7_FIXED		0x400
#define DR7_OTHER		0x700		/* LE and GE, without a breakpoint */
#define TIMER			0x00ffffffull	/* ticks that L2 does not use up */

#define RIGHTS_CODE_32		0xc09b
#define RIGHTS_DATA_32		0xc093
#define PAE_DATA		0x40000000ull	/* linear, and as many pages on with NX */
#define PAE_NX			(PAE_DATA + 32 * PAGE_SIZE)
#define PAE_NOWHERE		(PAE_TABLES + 16 * PAGE_SIZE)	/* no page of EPT12 */
#define PAE_INDEX		1		/* of PAE_DATA, in a PDPT */
#define HOME_INDEX		(HOME / (2 * MIB))

#define P_PRESENT		BIT(0)
#define P_USUAL			(BIT(0) | BIT(1) | BIT(5) | BIT(6))
#define P_NX			BIT(63)

extern const char s_all[], s_read_dr7[], s_write_dr7[], p_load_cr3[];

/* ---- NX ---- */

/* L2's tables where EPT12 does not let the walk pass. */
static void probe_tables(u64 eptp, const char *kind, u64 clear)
{
	u64 table = TABLES_GPA + 2 * PAGE_SIZE, before = *ept_entry(table, 1);

	ept_change(table, 1, clear, 0);
	invept_context(eptp);
	probe("changed", kind, OP_READ, TREE_NX);
	probe("changed", kind, OP_WRITE, TREE_NX);
	*ept_entry(table, 1) = before;
	invept_context(eptp);
}

/*
 * L2 turns NX on, and EFER is neither loaded at VM entry nor saved at a VM exit: vmcs12 keeps what
 * L1 has written there, which never was L2's.  Linux' KVM does that as L1, where L2's NXE is its own.
 */
void state_nx(u64 *ept12)
{
	struct vmx_controls controls = usual_controls;
	u64 eptp;

	begin(ept12, false);
	eptp = eptp_of(ept12, false);
	controls.entry &= ~ENTRY_LOAD_EFER;
	controls.exit &= ~EXIT_LOAD_EFER;
	vmcs_controls(&controls);
	vmwrite(GUEST_EFER, EFER_64);
	say("{'efer': {'at': 'entered', 'l2': '%x'}}\n", l2_read_msr(MSR_EFER));
	l2_write_msr(MSR_EFER, EFER_64 | EFER_NXE);
	say("{'efer': {'at': 'nx on', 'l2': '%x', 'vmcs': '%x', 'l1': '%x'}}\n",
	    l2_read_msr(MSR_EFER), vmread(GUEST_EFER), rdmsr(MSR_EFER));
	probe("rwx", "nx", OP_READ, TREE_NX);
	park_l2("nx");
	probe_kinds("plain", TREE);
	probe_kinds("nx", TREE_NX);
	probe_tables(eptp, "table-absent", EPT_RIGHTS);
	probe_tables(eptp, "table-read-only", EPT_W);
	probe("r", "nx", OP_WRITE, TREE_NX + KIND_R * PAGE_SIZE);
	park_l1("nx-exit");
	probe_kinds("nx", TREE_NX);
	wrmsr(MSR_EFER, EFER_64);
}

/* ---- PAE ---- */

static u64 *pae_page(u32 number)
{
	return (u64 *)(PAE_TABLES + number * PAGE_SIZE);
}

/* PDPT, two page directories and two page tables: five pages from `first` on. */
static u64 pae_tables(u32 first, bool backwards)
{
	u64 *pdpt = pae_page(first), *low = pae_page(first + 1), *home = pae_page(first + 2);
	u64 *directory = pae_page(first + 3), *data = pae_page(first + 4);

	memset(pdpt, 0, 5 * PAGE_SIZE);
	pdpt[0] = (u64)low | P_PRESENT;
	low[HOME_INDEX] = (u64)home | P_USUAL;
	for (u32 page = 0; page < HOME_PAGES; page++)
		home[page] = (HOME + page * PAGE_SIZE) | P_USUAL;
	pdpt[PAE_INDEX] = (u64)directory | P_PRESENT;
	directory[0] = (u64)data | P_USUAL;
	for (u32 kind = 0; kind < KIND_COUNT; kind++) {
		u32 page = backwards ? KIND_COUNT - 1 - kind : kind;

		data[kind] = (DATA_GPA + page * PAGE_SIZE) | P_USUAL;
		data[32 + kind] = data[kind] | P_NX;
	}
	return (u64)pdpt;
}

static void enter_pae(u64 pdpt)
{
	struct vmx_controls controls = usual_controls;

	controls.entry &= ~ENTRY_GUEST_64;
	vmcs_controls(&controls);
	vmwrite(GUEST_EFER, EFER_NXE);
	vmwrite(GUEST_CR3, pdpt);
	for (u32 i = 0; i < 4; i++)
		vmwrite(GUEST_PDPTE0 + 2 * i, ((u64 *)pdpt)[i]);
	vmwrite(GUEST_CS_RIGHTS, RIGHTS_CODE_32);
	for (u32 field = GUEST_ES_SELECTOR; field <= GUEST_DS_SELECTOR; field += 2) {
		if (field == GUEST_CS_SELECTOR)
			continue;
		vmwrite(field - GUEST_ES_SELECTOR + GUEST_ES_RIGHTS, RIGHTS_DATA_32);
		vmwrite(field - GUEST_ES_SELECTOR + GUEST_ES_LIMIT, 0xffffffff);
	}
	set_pae(true);
}

static void load_cr3(const char *name, u64 cr3)
{
	registers.rax = cr3;
	run_l2(name, stub32(p_load_cr3));
}

static void say_pdptes(const char *point)
{
	say("{'pdptes': ['%x', '%x', '%x', '%x'], 'cr3': '%x', 'behind': '%s'}\n",
	    vmread(GUEST_PDPTE0), vmread(GUEST_PDPTE0 + 2), vmread(GUEST_PDPTE0 + 4),
	    vmread(GUEST_PDPTE0 + 6), vmread(GUEST_CR3), point);
}

static void probe_pae_table(u64 eptp, const char *kind, u64 table, u64 clear)
{
	ept_change(table, 1, clear, 0);
	invept_context(eptp);
	probe("changed", kind, OP_READ, PAE_DATA);
	ept_change(table, 1, 0, clear);
	invept_context(eptp);
}

/*
 * L2 in 32-bit mode with PAE paging.  It runs on the PDPTE registers of its last MOV CR3, which no
 * hypervisor sees; then one that EPT12 does not let it make.
 */
void state_pae(void)
{
	u64 *ept12 = new_ept12(DATA);
	u64 first = pae_tables(0, false), second = pae_tables(5, true), eptp;

	ept_map(PAE_TABLES, PAE_TABLES, RWX_WB, 1, 10);
	begin(ept12, false);
	eptp = eptp_of(ept12, false);
	enter_pae(first);
	probe_kinds("pae", PAE_DATA);
	before_l2_parks("pae");
	load_cr3("load", second);
	say_pdptes("pae");
	probe_kinds("pae", PAE_DATA);
	probe_kinds("pae-nx", PAE_NX);
	probe_pae_table(eptp, "directory-absent", second + 3 * PAGE_SIZE, EPT_RIGHTS);
	probe_pae_table(eptp, "directory-read-only", second + 3 * PAGE_SIZE, EPT_W);
	probe_pae_table(eptp, "table-absent", second + 4 * PAGE_SIZE, EPT_RIGHTS);
	probe_pae_table(eptp, "table-read-only", second + 4 * PAGE_SIZE, EPT_W);
	registers.rdx = PORT_POST;
	load_cr3("load-nowhere", PAE_NOWHERE);
	say_pdptes("pae-exit");
	park_l1("pae-exit");
	probe_kinds("pae", PAE_DATA);
	probe_kinds("pae-nx", PAE_NX);
	set_pae(false);
}

/* ---- controls ---- */

/* A register of L2's, the controls that decide about it, and two values. */
struct kept {
	const char *name;
	u32 field, msr;			/* no MSR: DR7 */
	u32 load, save;			/* entry control, exit control */
	u64 written, other;		/* what L1 writes into the VMCS, and what L2 makes of it */
};
static const struct kept kept[] = {
	{ "efer", GUEST_EFER, MSR_EFER, ENTRY_LOAD_EFER, EXIT_SAVE_EFER, EFER_64,
	  EFER_64 | EFER_NXE },
	{ "pat", GUEST_PAT, MSR_PAT, ENTRY_LOAD_PAT, EXIT_SAVE_PAT, PAT_USUAL - 2, PAT_OTHER },
	{ "dr7", GUEST_DR7, 0, ENTRY_LOAD_DEBUG, EXIT_SAVE_DEBUG, DR7_FIXED | 0x100, DR7_OTHER },
	{ "debugctl", GUEST_DEBUGCTL, MSR_DEBUGCTL, ENTRY_LOAD_DEBUG, EXIT_SAVE_DEBUG,
	  DEBUGCTL_BTF, 0 },
};

static u64 l2_value(const struct kept *k)
{
	if (k->msr)
		return l2_read_msr(k->msr);
	run_l2("dr7", stub64(s_read_dr7));
	return registers.rax;
}

static void l2_makes(const struct kept *k, u64 value)
{
	if (k->msr) {
		l2_write_msr(k->msr, value);
		return;
	}
	registers.rax = value;
	run_l2("dr7", stub64(s_write_dr7));
}

static struct vmx_controls with(const struct kept *k, bool load, bool save)
{
	struct vmx_controls controls = usual_controls;

	controls.entry = load ? controls.entry | k->load : controls.entry & ~k->load;
	controls.exit = save ? controls.exit | k->save : controls.exit & ~k->save;
	return controls;
}

static void toggle(const struct kept *k, bool load, bool save)
{
	struct vmx_controls controls = with(k, load, save);
	u64 saw;

	vmcs_controls(&controls);
	vmwrite(k->field, k->written);
	saw = l2_value(k);
	vmwrite(k->field, k->written);
	l2_makes(k, k->other);
	say("{'control': '%s', 'field': '%x', 'load': %s, 'save': %s, 'written': '%x', "
	    "'l2_saw': '%x', 'l2_made': '%x', 'vmread': '%x'}\n", k->name, (u64)k->field,
	    load ? "true" : "false", save ? "true" : "false", k->written, saw, k->other,
	    vmread(k->field));
	vmwrite(k->field, k->written);
}

static void toggle_timer(bool on, bool save)
{
	struct vmx_controls controls = usual_controls;

	controls.pin = on ? PIN_PREEMPTION_TIMER : 0;
	controls.exit |= save ? EXIT_SAVE_TIMER : 0;
	if (!controls_offered(PIN_CONTROLS, controls.pin)
	    || !controls_offered(EXIT_CONTROLS, controls.exit))
		return;
	vmcs_controls(&controls);
	vmwrite(GUEST_PREEMPTION_TIMER, TIMER);
	l2_read_msr(MSR_PAT);
	say("{'control': 'timer', 'field': '%x', 'load': %s, 'save': %s, 'written': '%x', "
	    "'vmread': '%x'}\n", (u64)GUEST_PREEMPTION_TIMER, on ? "true" : "false",
	    save ? "true" : "false", TIMER, vmread(GUEST_PREEMPTION_TIMER));
}

/* All at once: L2 makes its own values, and parks; then L1 does, after the exit. */
static void park_with_controls(u64 *ept12, bool on, const char *in_l2, const char *in_l1)
{
	struct vmx_controls controls = usual_controls;

	begin(ept12, false);
	for (u32 i = 0; i < COUNT(kept); i++) {
		controls.entry = on ? controls.entry | kept[i].load : controls.entry & ~kept[i].load;
		controls.exit = on ? controls.exit | kept[i].save : controls.exit & ~kept[i].save;
	}
	vmcs_controls(&controls);
	for (u32 i = 0; i < COUNT(kept); i++)
		vmwrite(kept[i].field, kept[i].written);
	probe("rwx", "plain", OP_READ, TREE);
	before_l2_parks(in_l2);
	registers.r10 = PAT_OTHER;
	registers.r11 = DR7_OTHER;
	run_l2("park", stub64(s_all));
	park_l1(in_l1);
	probe("rwx", "plain", OP_READ, TREE);
	probe("r", "plain", OP_WRITE, TREE + KIND_R * PAGE_SIZE);
	probe("rwx", "nx", OP_FETCH, TREE_NX);
}

void state_controls(u64 *ept12)
{
	begin(ept12, false);
	for (u32 i = 0; i < COUNT(kept); i++)
		for (u32 both = 0; both < 4; both++)
			toggle(&kept[i], both & 1, both & 2);
	toggle_timer(false, false);
	toggle_timer(true, false);
	toggle_timer(true, true);
	park_with_controls(ept12, false, "controls-off", "controls-off-exit");
	park_with_controls(ept12, true, "controls-on", "controls-on-exit");
}
