/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "states.h"
#include "console.h"
#include "cpu.h"
#include "l1.h"
#include "memory.h"
#include "page.h"
#include "paging.h"
#include "ports.h"

#define L1_TABLES_UNDER	(14 * MIB)
#define STATES_OFFSET	0x400		/* of the stubs in L2's first page */
#define PAE_OFFSET	0x800
#define WRITE_OFFSET	0x800
#define LOW_LARGE_PAGES	256		/* linear = L2 address under 512 MiB */
#define POINTER_PAGE	(2 * MIB)

#define BETWEEN		"between"

#define G_PRESENT	BIT(0)
#define G_WRITABLE	BIT(1)
#define G_USED		(BIT(5) | BIT(6))	/* accessed, dirty */
#define G_NX		BIT(63)
#define G_USUAL		(G_PRESENT | G_WRITABLE | G_USED)

extern const char l2_code[], l2_read[], l2_write[], l2_code_end[];
extern const char states_code[], s_out[], s_read_msr[], s_write_msr[], states_code_end[];
extern const char pae_code[], p_read[], p_write[], pae_code_end[];

const char *const kind_name[KIND_COUNT] = { "rwx", "r", "rx", "rw", "hole", "w" };
static const u64 kind_bits[KIND_COUNT] = {
	RWX_WB, EPT_R | EPT_WB, EPT_R | EPT_X | EPT_WB, EPT_R | EPT_W | EPT_WB, 0, EPT_W | EPT_WB,
};
static const char *const op_name[OP_COUNT] = {
	[OP_READ] = "read", [OP_WRITE] = "write", [OP_FETCH] = "fetch",
};

struct guest_registers registers;
static const char *state = BETWEEN;	/* the park point passed last, in this VMCS */
static bool vmm, pae, ept12_hidden;

bool under_vmm(void)
{
	return vmm;
}

/* ---- EPT12 ---- */

void ept_map(u64 gpa, u64 l1gpa, u64 bits, u32 level, u32 count)
{
	const struct scenario_region region = {
		.l2gpa = gpa, .base = l1gpa, .bits = bits, .count = count, .level = level,
		.kind = REGION_LEAF,
	};

	ept_add(&region, false);
}

void ept_change(u64 gpa, u32 level, u64 clear, u64 set)
{
	u64 *entry = ept_entry(gpa, level);

	if (!entry)
		fail("no entry of EPT12 to change", gpa);
	*entry = (*entry & ~clear) | set;
}

u64 *new_ept12(u64 data)
{
	u64 *made;

	ept_init();
	ept_map(HOME, HOME, RWX_WB, 1, HOME_PAGES);
	for (u32 kind = 0; kind < KIND_COUNT; kind++)
		if (kind_bits[kind])
			ept_map(DATA_GPA + kind * PAGE_SIZE, data + kind * PAGE_SIZE, kind_bits[kind],
				1, 1);
	ept_map(TABLES_GPA, TABLES, RWX_WB, 1, GUEST_TOP_LEVEL - 1);
	made = ept_select(NULL);
	ept_select(made);
	return made;
}

u64 eptp_of(u64 *ept12, bool ad)
{
	ept_select(ept12);
	return ept_pointer(ad);
}

/* ---- L2 ---- */

static void map_linear(u64 linear, u64 gpa, u64 bits, u32 level, u32 count, bool own_tables)
{
	const struct scenario_map map = {
		.linear = linear, .gpa = gpa, .bits = bits, .level = level, .count = count,
		.tables_gpa = own_tables ? TABLES_GPA : 0, .tables_l1gpa = own_tables ? TABLES : 0,
	};

	guest_map(&map);
}

static void build_l2(void)
{
	const struct scenario_file place = {
		.home = HOME, .home_end = HOME + HOME_PAGES * PAGE_SIZE,
	};

	memcpy((char *)HOME, l2_code, l2_code_end - l2_code);
	memcpy((char *)HOME + STATES_OFFSET, states_code, states_code_end - states_code);
	memcpy((char *)HOME + PAE_OFFSET, pae_code, pae_code_end - pae_code);
	guest_paging_init(&place);
	map_linear(0, 0, G_USUAL, 2, LOW_LARGE_PAGES, false);
	map_linear(APIC, APIC, G_USUAL, 2, 1, false);
	map_linear(TSS_PAGE & ~(POINTER_PAGE - 1), TSS_PAGE & ~(POINTER_PAGE - 1), G_USUAL, 2, 1,
		   false);
	map_linear(TREE, DATA_GPA, G_USUAL, 1, KIND_COUNT, true);
	map_linear(TREE_NX, DATA_GPA, G_USUAL | G_NX, 1, KIND_COUNT, true);
	for (u64 page = 0; page < KIND_COUNT * PAGE_SIZE; page += PAGE_SIZE)
		for (u64 data = DATA; data <= OTHER_DATA; data += OTHER_DATA - DATA) {
			page_prepare(data + page);
			*(u64 *)(data + page) = page_signature(data + page);
		}
}

void begin(u64 *ept12, bool ad)
{
	state = BETWEEN;
	vmcs_fresh();
	vmcs_prepare();
	vmwrite(GUEST_CR3, guest_cr3());
	vmwrite(GUEST_RSP, HOME + 2 * PAGE_SIZE);
	vmwrite(EPT_POINTER, eptp_of(ept12, ad));
	say("{'eptp': '%x'}\n", eptp_of(ept12, ad));
}

u64 stub64(const char *stub)
{
	if (stub >= states_code && stub < states_code_end)
		return HOME + STATES_OFFSET + (stub - states_code);
	return HOME + (stub - l2_code);
}

u64 stub32(const char *stub)
{
	return HOME + PAE_OFFSET + (stub - pae_code);
}

void set_pae(bool on)
{
	pae = on;
}

void set_ept12_hidden(bool on)
{
	ept12_hidden = on;
}

static void say_exit(u64 reason)
{
	u64 qualification = vmread(EXIT_QUALIFICATION);

	say("'outcome': 'exit', 'reason': '%x', 'qualification': '%x', 'rip': '%x'", reason,
	    qualification, vmread(GUEST_RIP));
	if (reason == REASON_EXCEPTION)
		say(", 'interruption': '%x', 'error_code': '%x'", vmread(EXIT_INTERRUPTION),
		    vmread(EXIT_ERROR_CODE));
	else
		say(", 'gpa': '%x', 'gla': '%x'", vmread(GUEST_PHYSICAL_ADDRESS),
		    vmread(GUEST_LINEAR_ADDRESS));
	say("}\n");
}

bool run_l2(const char *name, u64 rip)
{
	u64 reason;

	vmwrite(GUEST_RIP, rip);
	vmx_enter(&registers);
	reason = vmread(EXIT_REASON);
	if (reason == REASON_VMCALL)
		return true;
	say("{'probe': '%s', 'name': '%s', ", state, name);
	say_exit(reason);
	return false;
}

static u64 stub_of(u32 op, u64 linear)
{
	if (op == OP_FETCH)
		return linear + PAGE_CODE_OFFSET;
	if (pae)
		return stub32(op == OP_READ ? p_read : p_write);
	return stub64(op == OP_READ ? l2_read : l2_write);
}

/* The access is at `linear`, by the instruction at `rip`. */
void probe_at(const char *kind, const char *page, u32 op, u64 linear, u64 rip)
{
	u64 reason;

	registers.rdi = linear;
	registers.rax = 0;
	vmwrite(GUEST_RIP, rip);
	vmx_enter(&registers);
	reason = vmread(EXIT_REASON);
	say("{'probe': '%s', 'name': '%s-%s', 'op': '%s', 'linear': '%x', ", state, kind, page,
	    op_name[op], linear);
	if (reason == REASON_VMCALL)
		say("'outcome': 'translated', 'value': '%x'}\n", registers.rax);
	else
		say_exit(reason);
}

/* A write leaves the page's signature alone. */
void probe(const char *kind, const char *page, u32 op, u64 linear)
{
	static const u32 offset[OP_COUNT] = {
		[OP_WRITE] = WRITE_OFFSET, [OP_FETCH] = PAGE_CODE_OFFSET,
	};

	probe_at(kind, page, op, linear + offset[op], stub_of(op, linear));
}

void probe_kinds(const char *page, u64 linear)
{
	static const u32 ops[] = { OP_READ, OP_WRITE, OP_FETCH };

	for (u32 kind = 0; kind < KIND_COUNT; kind++)
		for (u32 op = 0; op < COUNT(ops); op++)
			probe(kind_name[kind], page, ops[op], linear + kind * PAGE_SIZE);
}

u64 l2_read_msr(u32 msr)
{
	registers.rcx = msr;
	if (!run_l2("rdmsr", stub64(s_read_msr)))
		return 0;
	return (u32)registers.rax | registers.rdx << 32;
}

void l2_write_msr(u32 msr, u64 value)
{
	registers.rcx = msr;
	registers.rax = (u32)value;
	registers.rdx = value >> 32;
	run_l2("wrmsr", stub64(s_write_msr));
}

/* ---- park points ---- */

static void say_state(const char *name)
{
	state = name;
	say("{'state': '%s', 'eptp': '%x', 'efer': '%x', 'pat': '%x'}\n", name,
	    vmread(EPT_POINTER), rdmsr(MSR_EFER), rdmsr(MSR_PAT));
	if (!ept12_hidden)
		ept_say("entry_at_park");
	say_vmcs(name);
}

void park_l1(const char *name)
{
	say_state(name);
	if (vmm)
		outl(PORT_PARK_NAMED, (uintptr_t)name);
}

u16 park_port(void)
{
	return vmm ? PORT_PARK_NAMED : PORT_POST;
}

/* For stubs that do more than the OUT. */
void before_l2_parks(const char *name)
{
	say_state(name);
	registers.r8 = registers.rbx = (u32)(uintptr_t)name;
	registers.r9 = registers.rdx = park_port();
}

void park_l2(const char *name)
{
	before_l2_parks(name);
	run_l2("park", stub64(s_out));
}

void l1_run(bool has_vmm)
{
	u64 *ept12;

	vmm = has_vmm;
	new_pages_below(L1_TABLES_UNDER);
	vmx_on();
	build_l2();
	ept12 = new_ept12(DATA);
	state_nx(ept12);
	state_pae();
	state_controls(ept12);
	state_composing(ept12);
	state_eptp(ept12);
	state_dirty(ept12);
	state_apic(ept12);
	if (vmm)
		state_slots(ept12);
}
