/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L1 of the second proof: as cases.c, but each case turns on features of VMX that the cases of
 * the first one do without, and the page-modification log, the #VE area and the path of the data in
 * EPT12 are recorded with the exit.  All entries of EPT12 have accessed and dirty flags and the right
 * of user execution outside of a case, so what a case finds is what its patches say.
 *
 * Words of the command line: la57=1 (L1, and so every L2, has five levels of paging), unlike=1 (an
 * L2 may have them where L1 has not), tell=1 (say each case that has a text, and what it got).
 */
#define l1_run run_usual_cases
#include "cases.c"
#undef l1_run
#include "features.h"

#define CPU2_VMFUNC		BIT(13)
#define CPU2_PML		BIT(17)
#define CPU2_VE			BIT(18)
#define CPU2_MBEC		BIT(22)
#define CPU2_SPP		BIT(23)
#define ENTRY_LOAD_CET		BIT(20)
#define EPT_CAP_SSS		BIT(23)
#define EPTP_SSS		BIT(7)
#define EPT_OPEN		0x700ull	/* accessed, dirty, user execute */
#define EPT_LARGE_BIT		BIT(7)
#define PIN_NMI_EXITING		BIT(3)
#define PIN_VIRTUAL_NMIS	BIT(5)
#define BLOCKING_BY_NMI		BIT(3)
#define CR4_LA57		BIT(12)
#define CR4_CET			BIT(23)
#define CET_SHADOW_STACKS	0x3	/* SH_STK_EN and WR_SHSTK_EN */
#define MSR_VMX_VMFUNC		0x491
#define VMFUNC_EPTP_SWITCHING	BIT(0)
#define SPPT_VALID		BIT(0)
#define PML_LAST		511
#define GUEST_TABLE		0x27	/* present, writable, user, accessed */
#define NOWHERE			(~0ull)

enum more_fields {
	EPTP_INDEX = 0x0004,
	GUEST_PML_INDEX = 0x0812,
	PML_ADDRESS = 0x200e,
	VM_FUNCTION_CONTROLS = 0x2018,
	EPTP_LIST = 0x2024,
	VE_AREA = 0x202a,
	SPPT_POINTER = 0x2030,
	GUEST_INTERRUPTIBILITY = 0x4824,
	GUEST_S_CET = 0x6828,
	GUEST_SSP = 0x682a,
};

extern const char f_code[], f_code_end[];
extern const char f_switch_read[], f_switch_write[], f_switch_fetch[];
extern const char f_shadow_write[], f_shadow_read[], f_iret[], f_movs[];
void l1_la57(void);

static u64 *pml, *ve_area, *sppt, *eptp_list, *other_root;
static u32 in_force = ~0u;
static u64 pml5;
static struct feature_record *kept;
static u64 kept_count;
static bool telling;

/* ---- what lies in memory before the first case ---- */

static void open_up(u64 table, u32 level)
{
	u64 *entries = (u64 *)table;

	for (u32 i = 0; i < 512; i++) {
		if (!(entries[i] & EPT_RIGHTS))
			continue;
		entries[i] |= EPT_OPEN;
		if (level > 1 && !(entries[i] & EPT_LARGE_BIT))
			open_up(entries[i] & FRAME, level - 1);
	}
}

/* The SPP table's entry of a level, with tables added where there are none. */
static u64 *sppt_entry(u64 gpa, u32 level)
{
	u64 *here = sppt;

	for (u32 l = SPP_LEVELS; l > level; l--) {
		u64 *entry = &here[gpa / level_size(l) % 512];

		if (!*entry)
			*entry = (u64)new_page() | SPPT_VALID;
		here = (u64 *)(*entry & FRAME);
	}
	return &here[gpa / level_size(level) % 512];
}

/* L2's fifth level leads to its usual tables; it is the last page of home. */
static void pml5_build(void)
{
	pml5 = file->home_end - PAGE_SIZE;
	for (u32 i = 0; i < 512; i++)
		if (((u64 *)pml5)[i])
			fail("no page is left for L2's PML5", pml5);
	((u64 *)pml5)[0] = ((u64 *)pml5)[511] = guest_cr3() | GUEST_TABLE;
}

/* The second EPT differs in the PML4E of the far half alone, which leads to the same tables. */
static void other_root_build(void)
{
	u64 root = ept_pointer(false) & FRAME;

	other_root = new_page();
	memcpy(other_root, (void *)root, PAGE_SIZE);
}

static void features_build(void)
{
	pml = new_page();
	ve_area = new_page();
	sppt = new_page();
	eptp_list = new_page();
	memcpy((void *)(file->home + (l2_code_end - l2_code)), f_code, f_code_end - f_code);
	open_up(ept_pointer(false) & FRAME, EPT_TOP_LEVEL);
	other_root_build();
	kept = (void *)records;
}

/* ---- one case ---- */

static u64 controls_of(u32 features)
{
	return CPU2_EPT | (features & FEATURE_PML ? CPU2_PML : 0)
		| (features & FEATURE_VE ? CPU2_VE : 0) | (features & FEATURE_MBEC ? CPU2_MBEC : 0)
		| (features & FEATURE_SPP ? CPU2_SPP : 0)
		| (features & FEATURE_SWITCH ? CPU2_VMFUNC : 0);
}

static u64 pins_of(u32 features)
{
	return (features & FEATURE_NMI_EXITING ? PIN_NMI_EXITING : 0)
		| (features & FEATURE_VIRTUAL_NMIS ? PIN_VIRTUAL_NMIS : 0);
}

static bool offered(u32 features)
{
	u64 cr4 = (features & FEATURE_SSS ? CR4_CET : 0) | (features & FEATURE_LA57 ? CR4_LA57 : 0);

	if (!controls_offered(CPU_CONTROLS_2, controls_of(features))
	    || !controls_offered(PIN_CONTROLS, pins_of(features)))
		return false;
	/* Bochs ends if L2's LA57 is not L1's. */
	if (!(features & FEATURE_LA57) == !!(read_cr4() & CR4_LA57)
	    && !word_on_command_line("unlike=1"))
		return false;
	if (features & FEATURE_SSS && !(ept_vpid_cap() & EPT_CAP_SSS))
		return false;
	if (features & FEATURE_SWITCH && !(rdmsr(MSR_VMX_VMFUNC) & VMFUNC_EPTP_SWITCHING))
		return false;
	return !(cr4 & ~rdmsr(MSR_VMX_CR4_FIXED1));
}

static void features_on(u32 features)
{
	struct vmx_controls controls = usual_controls;
	u64 cr4 = read_cr4();

	in_force = features;
	controls.cpu2 = controls_of(features);
	controls.pin |= pins_of(features);
	if (features & FEATURE_SSS) {
		controls.entry |= ENTRY_LOAD_CET;
		cr4 |= CR4_CET;
		vmwrite(GUEST_S_CET, CET_SHADOW_STACKS);
		vmwrite(GUEST_SSP, file->home + PAGE_SIZE);
	}
	if (features & FEATURE_PML)
		vmwrite(PML_ADDRESS, (u64)pml);
	if (features & FEATURE_VE)
		vmwrite(VE_AREA, (u64)ve_area);
	if (features & FEATURE_SPP)
		vmwrite(SPPT_POINTER, (u64)sppt);
	if (features & FEATURE_SWITCH) {
		vmwrite(VM_FUNCTION_CONTROLS, VMFUNC_EPTP_SWITCHING);
		vmwrite(EPTP_LIST, (u64)eptp_list);
	}
	vmcs_controls(&controls);
	vmwrite(GUEST_CR4, cr4 | (features & FEATURE_LA57 ? CR4_LA57 : 0));
	vmwrite(GUEST_CR3, features & FEATURE_LA57 ? pml5 : guest_cr3());
}

static u64 pml_index_of(u32 features)
{
	if (features & FEATURE_PML_FULL)
		return 0xffff;
	return features & FEATURE_PML_ONE_LEFT ? 0 : PML_LAST;
}

static void areas_clear(u32 features)
{
	if (features & FEATURE_PML) {
		memset(&pml[PML_LAST + 1 - PML_SHOWN], 0, PML_SHOWN * sizeof(*pml));
		vmwrite(GUEST_PML_INDEX, pml_index_of(features));
	}
	if (features & FEATURE_VE)
		vmwrite(EPTP_INDEX, 0);
	vmwrite(GUEST_INTERRUPTIBILITY, features & FEATURE_NMI_BLOCKED ? BLOCKING_BY_NMI : 0);
	memset(ve_area, 0, VE_WORDS * sizeof(*ve_area));
	if (features & FEATURE_VE_BUSY)
		ve_area[0] = 0xffffffffull << 32;
}

static u64 *feature_entry(const struct scenario_patch *patch, const struct guest_walk *walk,
			  u64 linear)
{
	if (patch->space == PATCH_SPPT)
		return sppt_entry(walk->gpa, patch->level);
	if (patch->space == PATCH_OTHER)
		return &other_root[walk->gpa / level_size(EPT_TOP_LEVEL) % 512];
	if (patch->space == PATCH_WALK && patch->walk > GUEST_TOP_LEVEL)
		return ept_entry(pml5, patch->level);
	return patched_entry(patch, walk, linear);
}

static void patches_on(const struct scenario_case *c, const struct guest_walk *walk,
		       struct change *changes)
{
	const struct scenario_patch *patch = (const struct scenario_patch *)table(file->patches)
		+ c->patch;

	if (c->patches > MAX_PATCHES)
		fail("too many patches for one case", c->patches);
	for (u32 i = 0; i < c->patches; i++) {
		changes[i].entry = feature_entry(&patch[i], walk, c->linear);
		if (!changes[i].entry)
			fail("a patch for an entry that does not exist", c->linear);
		changes[i].before = *changes[i].entry;
	}
	for (u32 i = 0; i < c->patches; i++)
		*changes[i].entry = (*changes[i].entry & patch[i].keep) | patch[i].set
			| (patch[i].beyond ? beyond_maxphyaddr() : 0);
}

static const char *stub_of(const struct scenario_case *c, u32 features)
{
	if (features & FEATURE_IRET)
		return f_iret;
	if (features & FEATURE_MOVS)
		return f_movs;
	if (features & FEATURE_SHADOW_STACK)
		return c->op == OP_WRITE ? f_shadow_write : f_shadow_read;
	if (!(features & FEATURE_SWITCH))
		return NULL;
	return c->op == OP_WRITE ? f_switch_write : c->op == OP_FETCH ? f_switch_fetch
		: f_switch_read;
}

/* As access(), with code of stubs.S. */
static void access_by(const char *stub, u64 linear, bool user)
{
	registers.rax = 0;
	registers.rcx = 1;
	registers.rbx = VALUE_WRITTEN;
	registers.rdi = linear;
	registers.rsi = MMIO_LINEAR;
	is_user = user;
	vmcs_user(user);
	vmwrite(GUEST_RIP, file->home + (l2_code_end - l2_code) + (stub - f_code));
	vmx_enter(&registers);
}

/* The page that has what L2 wrote, which is taken out again. */
static u64 written_to(u64 offset)
{
	const struct scenario_page *pages = table(file->pages);

	for (u32 i = 0; i < file->pages.count; i++) {
		u64 *place = (u64 *)(pages[i].l1gpa + offset);

		if (pages[i].needs & missing || *place != VALUE_WRITTEN)
			continue;
		*place = 0;
		return pages[i].l1gpa;
	}
	return NOWHERE;
}

static void keep(const struct feature_record *record)
{
	struct feature_record *place = &kept[kept_count];

	outcomes[record->usual.outcome]++;
	if ((u64)(place + 1) > records_end) {
		dropped++;
		return;
	}
	*place = *record;
	kept_count++;
}

/* Of a case that has a text, for whoever reads the serial line. */
static void tell(const struct scenario_case *c, const struct feature_record *record)
{
	const struct log_record *usual = &record->usual;

	if (c->name == NO_NAME)
		return;
	say("\n%s\n  got:      ", name_of(c));
	if (usual->outcome == OUTCOME_SKIPPED)
		say("nothing, L1 is not offered what this needs\n");
	else if (usual->outcome == OUTCOME_TRANSLATED)
		say("no exit");
	else
		say("exit %u, qualification %x, GPA %x, GLA %x", (u64)usual->reason,
		    usual->qualification, usual->gpa, usual->gla);
	if (usual->outcome != OUTCOME_SKIPPED)
		say("\n            EPT12 on the way to the data: %x %x %x %x\n", record->path[0],
		    record->path[1], record->path[2], record->path[3]);
}

static void run_feature_case(u32 number)
{
	const struct scenario_case *c = (const struct scenario_case *)table(file->cases) + number;
	struct feature_record record = { .usual.number = number };
	u32 features = c->unused;
	struct change changes[MAX_PATCHES];
	struct guest_walk walk;
	u64 usual;

	if (c->needs & missing || !offered(features)) {
		outcomes[OUTCOME_SKIPPED]++;
		record.usual.outcome = OUTCOME_SKIPPED;
		if (telling)
			tell(c, &record);
		return;
	}
	if (features != in_force)
		features_on(features);
	usual = ept_pointer(c->flags & CASE_AD) | (features & FEATURE_SSS ? EPTP_SSS : 0);
	if (features & FEATURE_SHADOW_STACK)
		vmwrite(GUEST_SSP, c->linear & ~7ull);
	eptp_list[0] = usual;
	eptp_list[1] = (usual & ~FRAME) | (u64)other_root;
	guest_walk(c->linear, &walk);
	patches_on(c, &walk, changes);
	areas_clear(features);
	eptp = usual;
	vmwrite(EPT_POINTER, eptp);
	invept_context(eptp);
	if (features & FEATURE_SWITCH)
		invept_context(eptp_list[1]);
	if (stub_of(c, features))
		access_by(stub_of(c, features), c->linear, c->flags & CASE_USER);
	else
		access(c->op, c->linear, VALUE_WRITTEN, c->flags & CASE_USER);
	read_exit(&record.usual);
	ept_path(walk.gpa, record.path);
	record.written = written_to(c->linear % PAGE_SIZE);
	if (features & FEATURE_PML)
		record.pml_index = vmread(GUEST_PML_INDEX);
	for (u32 i = 0; i < PML_SHOWN; i++)
		record.pml[i] = features & FEATURE_PML ? pml[PML_LAST - i] : 0;
	memcpy(record.ve, ve_area, sizeof(record.ve));
	undo_patches(c, changes);
	keep(&record);
	if (telling)
		tell(c, &record);
}

void l1_run(bool vmm)
{
	const struct case_options given = { .vmm = vmm, .quiet = true };

	if (word_on_command_line("la57=1"))
		l1_la57();
	landscape_build(module_start(), module_size(), &given);
	pml5_build();
	if (read_cr4() & CR4_LA57)
		vmwrite(GUEST_CR3, pml5);
	pages_sign();
	features_build();
	telling = word_on_command_line("tell=1");
	say("{'features': {'sppt': '%x', 'pml5': '%x', 'other_root': '%x', 'pml4': '%x'}}\n",
	    (u64)sppt, pml5, (u64)other_root, guest_cr3());
	say_vmcs("features");
	for (u32 i = 0; i < file->cases.count; i++)
		run_feature_case(i);
	say("{'cases': {'exits': %u, 'exceptions': %u, 'translated': %u, 'skipped': %u}}\n",
	    outcomes[OUTCOME_EXIT], exceptions, outcomes[OUTCOME_TRANSLATED],
	    outcomes[OUTCOME_SKIPPED]);
	say("{'log': {'address': '%x', 'record': %u, 'count': %u, 'dropped': %u}}\n",
	    (u64)kept, (u64)sizeof(*kept), kept_count, dropped);
	if (vmm) {
		features_on(0);
		park_in_l2();
	}
}
