/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the scenario.  One case: patch the entries it names, enter L2 right at the access, record
 * the exit (or the VMCALL behind the access), undo the patches.  Nothing of a case outlives it but
 * the accessed and dirty flags that the processor has set.
 */
#include "cases.h"
#include "console.h"
#include "cpu.h"
#include "ept.h"
#include "l1.h"
#include "memory.h"
#include "page.h"
#include "paging.h"
#include "ports.h"
#include "scenario.h"
#include "vmx.h"

#define WINDOW			(64 * MIB)
#define WINDOW_SIZE		(4 * MIB)
#define VALUE_WRITTEN		0x1122334455667788ull
#define MAX_PATCHES		16
#define CROSS_CODE_SIZE		10	/* l2_cross_code and its operand */
#define FRAME			0x000ffffffffff000ull	/* of an EPT entry */

extern const char l2_code[], l2_read[], l2_write[], l2_rmw[], l2_outs[], l2_ins[], l2_park[];
extern const char l2_code_end[];

static const char *const stubs[OP_COUNT] = {
	[OP_READ] = l2_read, [OP_WRITE] = l2_write, [OP_RMW] = l2_rmw,
	[OP_OUTS] = l2_outs, [OP_INS] = l2_ins,
};

/* An entry that a case has changed, and what it was. */
struct change {
	u64 *entry;
	u64 before;
};

static const struct scenario_file *file;
static struct case_options options;
static u32 missing;			/* NEEDS_… that this machine does not have */
static u64 eptp;
static bool is_user;
static struct guest_registers registers;
static struct log_record *records;
static u64 records_end, record_count, dropped;
static u64 outcomes[OUTCOME_SKIPPED + 1], exceptions;

static const void *table(struct scenario_table where)
{
	return (const char *)file + where.offset;
}

static u32 what_is_missing(void)
{
	u64 capabilities = ept_vpid_cap();

	return (capabilities & EPT_CAP_EXECUTE_ONLY ? 0 : NEEDS_EXECUTE_ONLY)
		| (capabilities & EPT_CAP_1G ? 0 : NEEDS_1G)
		| (capabilities & EPT_CAP_AD ? 0 : NEEDS_AD)
		| (is_ram(WINDOW, WINDOW_SIZE) ? 0 : NEEDS_WINDOW)
		| (options.vmm ? 0 : NEEDS_VMM)
		| (maxphyaddr() > 39 ? 0 : NEEDS_WIDE);
}

static void use_eptp(u64 wanted)
{
	if (wanted == eptp)
		return;
	eptp = wanted;
	vmwrite(EPT_POINTER, eptp);
	/* Both EPT pointers have the same tag: cached translations must go. */
	invept_context(eptp);
	if (!options.quiet)
		say("{'eptp': '%x'}\n", eptp);
}

static void build_tables(void)
{
	const struct scenario_region *region = table(file->regions);
	const struct scenario_map *map = table(file->maps);

	for (u32 i = 0; i < file->regions.count; i++) {
		if (region[i].needs & missing)
			say("{'skipped': {'region': '%x', 'needs': '%x'}}\n", region[i].l2gpa,
			    (u64)region[i].needs & missing);
		ept_add(&region[i], region[i].needs & missing);
	}
	for (u32 i = 0; i < file->maps.count; i++)
		if (!(map[i].needs & missing))
			guest_map(&map[i]);
}

static void landscape_build(const void *scenario, u64 size, const struct case_options *given)
{
	u64 log_end;

	file = scenario;
	options = *given;
	if (size < sizeof(*file) || file->magic != SCENARIO_MAGIC)
		fail("no scenario file: its magic", size < sizeof(*file) ? 0 : file->magic);
	if (!is_ram(file->arena, file->arena_end - file->arena))
		fail("the landscape's memory is not there", file->arena);
	new_pages_below(file->arena);
	missing = what_is_missing();

	/* The log is what remains of this piece of RAM, as far as the window. */
	records = (void *)file->arena_end;
	log_end = ram_end(file->arena);
	records_end = log_end < WINDOW ? log_end : WINDOW;

	vmx_on();
	vmcs_prepare();
	ept_init();
	guest_paging_init(file);
	build_tables();
	memcpy((void *)file->home, l2_code, l2_code_end - l2_code);
	vmwrite(GUEST_CR3, guest_cr3());
	vmwrite(GUEST_RSP, file->home + 2 * PAGE_SIZE);
	use_eptp(ept_pointer(false));
	ept_say("entry");
}

static u64 stub_rip(const char *stub)
{
	return file->home + (stub - l2_code);
}

/* Enters L2 for one access and leaves the exit in the VMCS. */
static void access(u32 op, u64 linear, u64 value, bool user)
{
	registers.rax = op == OP_RMW ? 0 : value;
	registers.rdi = registers.rsi = linear;
	registers.rdx = PORT_POST;
	if (user != is_user) {
		is_user = user;
		vmcs_user(user);
	}
	vmwrite(GUEST_RIP, op == OP_FETCH ? linear : stub_rip(stubs[op]));
	vmx_enter(&registers);
}

static void sign_by_l2(const struct scenario_page *page)
{
	u64 signature = page_signature(page->l1gpa);

	access(OP_WRITE, page->linear, signature, false);
	if (vmread(EXIT_REASON) != REASON_VMCALL)
		fail("L2 cannot sign its page", page->l2gpa);
	if (*(volatile u64 *)page->l1gpa != signature)
		fail("L2's signature is not where it belongs", page->l1gpa);
}

static void say_page(const struct scenario_page *page)
{
	volatile u64 *first = (volatile u64 *)page->l1gpa;
	u64 signature = page_signature(page->l1gpa);

	if (is_ram(page->l1gpa, PAGE_SIZE))
		*first = signature;
	if (*first != signature)
		fail("a page without signature", page->l1gpa);
	if (options.vmm)
		outl(PORT_TOUCHED, page->l1gpa / PAGE_SIZE);
	say("{'page': {'l2gpa': '%x', 'l1gpa': '%x', 'signature': '%x', 'by': '%s'}}\n",
	    page->l2gpa, page->l1gpa, signature, page->by_l2 ? "l2" : "l1");
}

/* Several L2 addresses may have one L1 page, so first all pages are emptied, then all signed. */
static void pages_sign(void)
{
	const struct scenario_page *pages = table(file->pages);
	u32 count = file->pages.count;

	for (u32 i = 0; i < count; i++)
		if (!(pages[i].needs & missing) && is_ram(pages[i].l1gpa, PAGE_SIZE))
			page_prepare(pages[i].l1gpa);
	for (u32 i = 0; i < count; i++)
		if (!(pages[i].needs & missing) && pages[i].by_l2)
			sign_by_l2(&pages[i]);
	for (u32 i = 0; i < count; i++)
		if (!(pages[i].needs & missing))
			say_page(&pages[i]);
}

/* Where a patch goes; NULL if the tables have no such entry. */
static u64 *patched_entry(const struct scenario_patch *patch, const struct guest_walk *walk,
			  u64 linear)
{
	struct guest_walk next;

	switch (patch->space) {
	case PATCH_EPT:
		return ept_entry(walk->gpa, patch->level);
	case PATCH_WALK:
		return ept_entry(walk->entry_gpa[patch->walk], patch->level);
	case PATCH_GUEST:
		return walk->entry[patch->level];
	case PATCH_NEXT:
		guest_walk(linear + PAGE_SIZE, &next);
		return ept_entry(next.gpa, patch->level);
	}
	return NULL;
}

/* All entries are found before the first is changed: a patch may cut the way to the next. */
static void apply_patches(const struct scenario_case *c, struct change *changes)
{
	const struct scenario_patch *patch = table(file->patches);
	struct guest_walk walk;

	if (!c->patches)
		return;
	if (c->patches > MAX_PATCHES)
		fail("too many patches for one case", c->patches);
	patch += c->patch;
	guest_walk(c->linear, &walk);
	for (u32 i = 0; i < c->patches; i++) {
		changes[i].entry = patched_entry(&patch[i], &walk, c->linear);
		if (!changes[i].entry)
			fail("a patch for an entry that does not exist", c->linear);
		changes[i].before = *changes[i].entry;
	}
	for (u32 i = 0; i < c->patches; i++)
		*changes[i].entry = (*changes[i].entry & patch[i].keep) | patch[i].set
			| (patch[i].beyond ? beyond_maxphyaddr() : 0);
	invept_context(eptp);
}

/*
 * Bochs keeps an instruction over the end of a page as it once decoded it, and runs it again with no
 * look at the second page.  A write to the first page makes it forget.
 */
static void forget_crossing_code(u64 linear)
{
	struct guest_walk walk;
	volatile u8 *code;
	u64 *leaf;

	guest_walk(linear, &walk);
	leaf = ept_entry(walk.gpa, 1);
	if (!leaf)
		fail("code over the end of a page that is no small one", linear);
	code = (volatile u8 *)((*leaf & FRAME) | linear % PAGE_SIZE);
	*code = *code;
}

static void undo_patches(const struct scenario_case *c, const struct change *changes)
{
	if (!c->patches)
		return;
	for (u32 i = c->patches; i--; )
		*changes[i].entry = changes[i].before;
	invept_context(eptp);
}

static void read_exit(struct log_record *record)
{
	record->reason = vmread(EXIT_REASON);
	if (record->reason == REASON_VMCALL) {
		record->outcome = OUTCOME_TRANSLATED;
		record->value = registers.rax;
		return;
	}
	record->outcome = OUTCOME_EXIT;
	record->qualification = vmread(EXIT_QUALIFICATION);
	record->rip = vmread(GUEST_RIP);
	if (record->reason == REASON_EXCEPTION) {
		exceptions++;
		record->value = vmread(EXIT_ERROR_CODE) << 32 | vmread(EXIT_INTERRUPTION);
		return;
	}
	record->gpa = vmread(GUEST_PHYSICAL_ADDRESS);
	record->gla = vmread(GUEST_LINEAR_ADDRESS);
	record->entries = ept_path(record->gpa, record->entry);
}

static const char *name_of(const struct scenario_case *c)
{
	return c->name == NO_NAME ? "" : (const char *)table(file->strings) + c->name;
}

static void say_entries(const struct log_record *record)
{
	say(", 'entries': [");
	for (u32 i = 0; i < record->entries; i++)
		say("%s'%x'", i ? ", " : "", record->entry[i]);
	say("]");
}

static void say_record(const struct scenario_case *c, const struct log_record *record)
{
	const char *ad = c->flags & CASE_AD ? "true" : "false";

	if (record->outcome == OUTCOME_TRANSLATED) {
		say("{'case': '%s', 'outcome': 'translated', 'read': '%x', 'ad': %s}\n",
		    name_of(c), record->value, ad);
		return;
	}
	say("{'exit': %u, 'case': '%s', 'reason': '%x', 'qualification': '%x', 'rip': '%x'",
	    (u64)record->number, name_of(c), (u64)record->reason, record->qualification,
	    record->rip);
	if (record->reason == REASON_EXCEPTION) {
		say(", 'interruption': '%x', 'error_code': '%x'",
		    record->value & 0xffffffff, record->value >> 32);
	} else {
		say(", 'gpa': '%x', 'gla': '%x'", record->gpa, record->gla);
		say_entries(record);
	}
	say(", 'ad': %s}\n", ad);
}

static void keep_record(const struct log_record *record)
{
	struct log_record *place = &records[record_count];

	outcomes[record->outcome]++;
	if ((u64)(place + 1) > records_end) {
		dropped++;
		return;
	}
	*place = *record;
	record_count++;
}

static void run_case(u32 number, bool park)
{
	const struct scenario_case *c = (const struct scenario_case *)table(file->cases) + number;
	struct log_record record = { .number = number };
	struct change changes[MAX_PATCHES];

	if (c->needs & missing) {
		outcomes[OUTCOME_SKIPPED]++;
		if (!options.quiet)
			say("{'case': '%s', 'outcome': 'skipped', 'needs': '%x'}\n", name_of(c),
			    (u64)c->needs & missing);
		return;
	}
	use_eptp(ept_pointer(c->flags & CASE_AD));
	if (c->op == OP_FETCH && c->linear % PAGE_SIZE > PAGE_SIZE - CROSS_CODE_SIZE)
		forget_crossing_code(c->linear);
	apply_patches(c, changes);
	access(c->op, c->linear, VALUE_WRITTEN, c->flags & CASE_USER);
	read_exit(&record);
	keep_record(&record);
	if (!options.quiet || park)
		say_record(c, &record);
	if (park) {
		say("{'eptp': '%x'}\n", eptp);
		ept_say("entry_at_park");
		say_vmcs("l1-exit");
		if (options.vmm)
			outb(PORT_PARK_L1_EXIT, 0);
	}
	undo_patches(c, changes);
}

static void cases_run(void)
{
	u64 last = options.first + options.count;

	for (u64 i = options.first; i < file->cases.count && i < last; i++)
		run_case(i, false);
	say("{'cases': {'exits': %u, 'exceptions': %u, 'translated': %u, 'skipped': %u}}\n",
	    outcomes[OUTCOME_EXIT], exceptions, outcomes[OUTCOME_TRANSLATED],
	    outcomes[OUTCOME_SKIPPED]);
	say("{'log': {'address': '%x', 'record': %u, 'count': %u, 'dropped': %u}}\n",
	    (u64)records, (u64)sizeof(*records), record_count, dropped);
}

/* The case named by `parkcase=`, or the one which the scenario marks. */
static u32 case_to_park_at(void)
{
	const struct scenario_case *cases = table(file->cases);
	u32 length;
	const char *name = word_value("parkcase=", &length);

	for (u32 i = 0; i < file->cases.count; i++)
		if (name ? text_length(name_of(&cases[i])) == length
			   && same_text(name_of(&cases[i]), name, length)
			 : cases[i].flags & CASE_PARK)
			return i;
	fail("no case to park at", 0);
}

static void park_in_l1_exit(void)
{
	run_case(case_to_park_at(), true);
}

/* L2 reads every signature once more, so the tables are well used; then it parks itself. */
static void park_in_l2(void)
{
	const struct scenario_page *pages = table(file->pages);
	u64 last = 0;

	use_eptp(ept_pointer(!(missing & NEEDS_AD)));
	for (u32 i = 0; i < file->pages.count; i++) {
		if (pages[i].needs & missing)
			continue;
		access(OP_READ, pages[i].linear, 0, false);
		if (pages[i].by_l2)
			last = pages[i].linear;
	}
	registers.rdi = last;
	registers.rdx = PORT_PARK_L2;
	vmwrite(GUEST_RIP, stub_rip(l2_park));
	say("{'eptp': '%x'}\n", eptp);
	ept_say("entry_at_park");
	say_vmcs("l2");
	vmx_enter(&registers);
}

void l1_run(bool vmm)
{
	const struct case_options given = {
		.vmm = vmm,
		.quiet = word_on_command_line("quiet=1"),
		.first = number_on_command_line("first=", 0),
		.count = number_on_command_line("count=", ~0u),
	};

	landscape_build(module_start(), module_size(), &given);
	pages_sign();
	cases_run();
	park_in_l1_exit();
	park_in_l2();
}
