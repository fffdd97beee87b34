/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L1 of the third proof: L2 in every paging mode.  The file of cases has all tables, L2's and
 * EPT12, as words at L1 addresses, L2's registers, and for each case the words to change; L1 knows
 * nothing of what they mean.  One case: change the words, enter L2 at the access, record the exit
 * (or the VMCALL behind the access), L2's entries and where a write went, and undo it all.
 *
 * Words of the command line: la57=1 (L1, and so every L2, has five levels of paging).
 */
#include "modes.h"
#include "console.h"
#include "cpu.h"
#include "l1.h"
#include "memory.h"
#include "ports.h"
#include "vmx.h"

#define CPU2_UNRESTRICTED_GUEST	BIT(7)
#define CR0_ET			BIT(4)
#define CR4_LA57		BIT(12)
#define CR4_PKE			BIT(22)
#define CR4_CET			BIT(23)
#define CR4_PKS			BIT(24)
#define MSR_PKRS		0x6e1
#define MSR_U_CET		0x6a0
#define CET_SHADOW_STACKS	0x3	/* SH_STK_EN and WR_SHSTK_EN */
#define ENTRY_LOAD_CET		BIT(20)
#define EPTP_AD			BIT(6)
#define LOG_END			(64 * MIB)

#define STUB			16	/* stubs.S */
#define CODE_OFFSET		8
#define CODE_IMMEDIATE		9
#define CODE16_IMMEDIATE	18
#define DESCRIPTOR_OFFSET	32
#define SELECTOR		0xb	/* entry 1, RPL 3 */
#define SELECTOR_OFFSET		8
#define SIGNATURE_MARK		0x4e000000u
#define VALUE_WRITTEN		0x11223344u

#define CODE_SELECTOR		0x08
#define DATA_SELECTOR		0x10
#define RIGHTS_CODE_16		0x009b
#define RIGHTS_CODE_32		0xc09b
#define RIGHTS_CODE_64		0xa09b
#define RIGHTS_DATA		0xc093
#define DPL_SHIFT		5

enum more_fields {
	GUEST_GDTR_LIMIT = 0x4810,
	GUEST_CS_BASE = 0x6808,
	GUEST_GDTR_BASE = 0x6816,
	GUEST_S_CET = 0x6828,
	GUEST_SSP = 0x682a,
};

extern const char modes_code[], modes_code_end[], modes_page[], modes_page_end[];
void l1_la57(void);

static const struct modes_file *file;
static struct modes_record *records;
static u64 records_end, record_count, dropped, outcomes[OUTCOME_COUNT];
static struct guest_registers registers;
static const struct modes_mode *in_force;
static bool in_force_offered;
static u64 eptp;

static const void *table(struct modes_table where)
{
	return (const char *)file + where.offset;
}

/* ---- what lies in memory before the first case ---- */

static u64 word_at(u64 address, u32 size)
{
	return size == 8 ? *(volatile u64 *)address : *(volatile u32 *)address;
}

static void set_word(u64 address, u32 size, u64 value)
{
	if (size == 8)
		*(volatile u64 *)address = value;
	else
		*(volatile u32 *)address = value;
}

static u64 page_of(u32 number)
{
	return (file->first_page + number) * PAGE_SIZE;
}

static u32 signature(u32 number)
{
	return SIGNATURE_MARK | (file->first_page + number);
}

static void sign(u32 number)
{
	char *page = (char *)page_of(number);
	u32 value = signature(number);

	memcpy(page, modes_page, modes_page_end - modes_page);
	memcpy(page, &value, sizeof(value));
	memcpy(page + CODE_IMMEDIATE, &value, sizeof(value));
	memcpy(page + CODE16_IMMEDIATE, &value, sizeof(value));
}

static void landscape_build(void)
{
	const struct modes_word *word;
	u64 end;

	file = module_start();
	if (module_size() < sizeof(*file) || file->magic != MODES_MAGIC)
		fail("no file of cases", module_size());
	if (!is_ram(file->arena, file->arena_end - file->arena)
	    || (u64)file + module_size() > file->arena)
		fail("the landscape's memory is not there", file->arena);
	memset((void *)file->arena, 0, file->arena_end - file->arena);
	word = table(file->words);
	for (u32 i = 0; i < file->words.count; i++)
		set_word(word[i].address, word[i].size, word[i].value);
	memcpy((void *)file->code, modes_code, modes_code_end - modes_code);
	for (u32 i = 0; i < file->pages; i++)
		sign(i);
	end = ram_end(file->arena);
	records = (void *)file->arena_end;
	records_end = end < LOG_END ? end : LOG_END;
	new_pages_below(file->arena);
}

/* ---- L2's registers ---- */

static bool unrestricted_offered(void)
{
	return controls_offered(CPU_CONTROLS_2, CPU2_UNRESTRICTED_GUEST);
}

/* Bochs ends if L2's LA57 is not L1's. */
static bool mode_offered(const struct modes_mode *mode)
{
	if ((mode->cr4 ^ read_cr4()) & CR4_LA57)
		return false;
	if (mode->cr4 & ~rdmsr(MSR_VMX_CR4_FIXED1))
		return false;
	return mode->cr0 & CR0_PG || unrestricted_offered();
}

static void keys_on(const struct modes_mode *mode)
{
	if (mode->cr4 & CR4_PKE) {
		write_cr4(read_cr4() | CR4_PKE);
		asm volatile("wrpkru" : : "a"(mode->pkru), "c"(0), "d"(0));
	}
	if (mode->cr4 & CR4_PKS)
		wrmsr(MSR_PKRS, mode->pkrs);
	vmwrite(HOST_CR4, read_cr4());
}

static void segments_on(const struct modes_mode *mode)
{
	u64 code = mode->bits == 64 ? RIGHTS_CODE_64
		: mode->bits == 32 ? RIGHTS_CODE_32 : RIGHTS_CODE_16;
	u64 dpl = mode->cpl << DPL_SHIFT;

	vmwrite(GUEST_CS_SELECTOR, CODE_SELECTOR | mode->cpl);
	vmwrite(GUEST_CS_RIGHTS, code | dpl);
	vmwrite(GUEST_CS_LIMIT, mode->bits == 16 ? 0xffff : 0xffffffff);
	vmwrite(GUEST_CS_BASE, 0);
	vmwrite(GUEST_SS_SELECTOR, DATA_SELECTOR | mode->cpl);
	vmwrite(GUEST_SS_RIGHTS, RIGHTS_DATA | dpl);
	vmwrite(GUEST_DS_SELECTOR, DATA_SELECTOR | mode->cpl);
	vmwrite(GUEST_DS_RIGHTS, RIGHTS_DATA | dpl);
	vmwrite(GUEST_DS_LIMIT, 0xffffffff);
}

static void mode_on(const struct modes_mode *mode)
{
	struct vmx_controls controls = usual_controls;

	in_force = mode;
	in_force_offered = mode_offered(mode);
	if (!in_force_offered)
		return;
	if (unrestricted_offered())
		controls.cpu2 |= CPU2_UNRESTRICTED_GUEST;
	if (mode->bits != 64)
		controls.entry &= ~ENTRY_GUEST_64;
	if (mode->cr4 & CR4_CET) {
		controls.entry |= ENTRY_LOAD_CET;
		vmwrite(GUEST_S_CET, CET_SHADOW_STACKS);
		wrmsr(MSR_U_CET, CET_SHADOW_STACKS);
	}
	vmcs_controls(&controls);
	vmwrite(GUEST_CR0, mode->cr0 | CR0_NE | CR0_ET);
	vmwrite(GUEST_CR3, mode->cr3);
	vmwrite(GUEST_CR4, mode->cr4 | CR4_VMXE);
	vmwrite(GUEST_EFER, mode->efer);
	vmwrite(GUEST_RFLAGS, mode->rflags);
	for (u32 i = 0; i < COUNT(mode->pdpte); i++)
		vmwrite(GUEST_PDPTE0 + 2 * i, mode->pdpte[i]);
	vmwrite(GUEST_GDTR_LIMIT, 0xffff);
	segments_on(mode);
	keys_on(mode);
}

/* ---- one case ---- */

static u64 stub_of(const struct modes_mode *mode, u32 op)
{
	return mode->code + (mode->bits / 32 * OP_COUNT + op) * STUB;
}

static void access(const struct modes_case *c)
{
	u64 rip = c->op == OP_FETCH ? c->linear : stub_of(in_force, c->op);

	registers.rax = VALUE_WRITTEN;
	registers.rdi = c->linear;
	if (c->op == OP_IMPLICIT) {
		registers.rax = SELECTOR;
		vmwrite(GUEST_GDTR_BASE, c->linear - SELECTOR_OFFSET);
	}
	if (c->op == OP_STACK_READ)
		registers.rax = 1;
	if (in_force->cr4 & CR4_CET)
		vmwrite(GUEST_SSP, c->linear & ~3ull);
	if (in_force->bits == 16) {
		vmwrite(GUEST_CS_BASE, rip & PAGE_MASK);
		rip %= PAGE_SIZE;
	}
	vmwrite(GUEST_RIP, rip);
	vmx_enter(&registers);
}

static void read_exit(struct modes_record *record)
{
	record->reason = vmread(EXIT_REASON);
	if (record->reason == REASON_VMCALL) {
		record->outcome = OUTCOME_TRANSLATED;
		record->value = (u32)registers.rax;
		return;
	}
	record->outcome = OUTCOME_EXIT;
	record->qualification = vmread(EXIT_QUALIFICATION);
	if (record->reason == REASON_EXCEPTION) {
		record->value = vmread(EXIT_ERROR_CODE) << 32 | vmread(EXIT_INTERRUPTION);
		return;
	}
	record->gpa = vmread(GUEST_PHYSICAL_ADDRESS);
	record->gla = vmread(GUEST_LINEAR_ADDRESS);
}

/* The page that is no longer as it was signed, which is mended. */
static u64 written_to(void)
{
	u64 found = 0;

	for (u32 i = 0; i < file->pages; i++) {
		volatile u32 *page = (volatile u32 *)page_of(i);
		volatile u64 *descriptor = (volatile u64 *)(page_of(i) + DESCRIPTOR_OFFSET);
		u64 unused_descriptor = *(const u64 *)(modes_page + DESCRIPTOR_OFFSET);

		if (*page == signature(i) && *descriptor == unused_descriptor)
			continue;
		*page = signature(i);
		*descriptor = unused_descriptor;
		found = page_of(i);
	}
	return found;
}

static void read_entries(const struct modes_case *c, struct modes_record *record)
{
	const struct modes_path *path = (const struct modes_path *)table(file->paths) + c->path;

	for (u32 i = 0; i < path->count; i++)
		record->entry[i] = word_at(path->entry[i], path->size);
}

static void keep(const struct modes_record *record)
{
	struct modes_record *place = &records[record_count];

	outcomes[record->outcome]++;
	if ((u64)(place + 1) > records_end) {
		dropped++;
		return;
	}
	*place = *record;
	record_count++;
}

/* L2's entries come back to what they were even if the processor has set flags in them. */
static void undo(const struct modes_word *patch, u32 count, const u64 *before)
{
	while (count--)
		set_word(patch[count].address, patch[count].size, before[count]);
}

static void run_case(u32 number)
{
	const struct modes_case *c = (const struct modes_case *)table(file->cases) + number;
	const struct modes_mode *mode = (const struct modes_mode *)table(file->modes) + c->mode;
	const struct modes_word *patch = (const struct modes_word *)table(file->patches) + c->patch;
	struct modes_record record = { .number = number };
	u64 wanted = file->eptp | (c->flags & CASE_AD ? EPTP_AD : 0);
	u64 before[MOST_PATCHES];

	if (mode != in_force)
		mode_on(mode);
	if (!in_force_offered) {
		outcomes[OUTCOME_SKIPPED]++;
		return;
	}
	if (c->patches > MOST_PATCHES)
		fail("too many patches for one case", c->patches);
	for (u32 i = 0; i < c->patches; i++) {
		before[i] = word_at(patch[i].address, patch[i].size);
		set_word(patch[i].address, patch[i].size, patch[i].value);
	}
	if (wanted != eptp)
		vmwrite(EPT_POINTER, wanted);
	if (wanted != eptp || c->flags & CASE_EPT)
		invept_context(wanted);
	eptp = wanted;
	access(c);
	read_exit(&record);
	read_entries(c, &record);
	record.written = written_to();
	undo(patch, c->patches, before);
	if (c->flags & CASE_EPT)
		invept_context(eptp);
	keep(&record);
}

void l1_run(bool vmm)
{
	if (word_on_command_line("la57=1"))
		l1_la57();
	landscape_build();
	vmx_on();
	vmcs_prepare();
	for (u32 i = 0; i < file->cases.count; i++)
		run_case(i);
	say("{'cases': {'exits': %u, 'translated': %u, 'skipped': %u}}\n",
	    outcomes[OUTCOME_EXIT], outcomes[OUTCOME_TRANSLATED], outcomes[OUTCOME_SKIPPED]);
	say("{'log': {'address': '%x', 'record': %u, 'count': %u, 'dropped': %u}}\n",
	    (u64)records, (u64)sizeof(*records), record_count, dropped);
	if (vmm) {
		say_vmcs("l1-exit");
		outb(PORT_PARK_L1_EXIT, 0);
	}
}
