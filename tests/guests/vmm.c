// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A virtual-machine monitor just large enough for the lab: it runs L1 (a nested hypervisor) under
 * Linux' KVM, beside two machines that never nest, so that somebody who reads this host from
 * outside finds more than one of everything.
 *
 *	vmm L1.ELF SCENARIOS.BIN [WORD=VALUE...]	words go to L1's command line; l1=states:
 *							the machine that states.elf wants
 *	vmm --park NAME					park at once
 *
 * To park is to execute XCHG %BX, %BX: with `magic_break` Bochs then stops, in this very process.
 * With KGDB_AT=NAME,... in the environment, it is to enter kgdb, at the points named and no other.
 *
 *	nested	one processor; 0..32 MiB, 64..68 MiB, 64 KiB read-only at 0xfff00000; for the L1
 *		states.elf also an APIC and a TSS in the kernel, and 1 MiB at 96 MiB, which is taken
 *		away, put back, and moved to 112 MiB at that L1's wish
 *	plain	one processor, real mode, halts; 2 MiB
 *	pair	two processors, real mode, halt; 4 MiB in two slots
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "ports.h"

#define COUNT(array)		(sizeof(array) / sizeof((array)[0]))
#define MIB			0x100000ull
#define PAGE			0x1000ull
#define MAX_SLOTS		4
#define MAX_VCPUS		2

#define HUGE_FROM		(16 * MIB)	/* of slot 0; under it the host has small pages */
#define READ_ONLY_SLOT		2
#define READ_ONLY_AT		0xfff00000ull
#define MOVING_SLOT		3
#define MOVING_AT		(96 * MIB)
#define MOVED_TO		(112 * MIB)
#define TSS_AT			0xfffbd000ul
#define SIGNATURE_MARK		(0x4e455054ull << 32)	/* as in L1 */
#define PAGEMAP_SAMPLE		96

#define MULTIBOOT_LOADED	0x2badb002
#define MULTIBOOT_AT		0x9000
#define MULTIBOOT_FLAGS		0x4d		/* memory sizes, command line, modules, memory map */
#define MMAP_RAM		1
#define MMAP_RESERVED		2

#define LINE_STATUS_IDLE	0x60
#define REAL_MODE_CODE		0x1000
#define CR0_PE			1
#define RFLAGS_FIXED		2

struct slot {
	uint64_t gpa, size;
	uint32_t flags;
	char *host;
};

struct vcpu {
	int fd;
	struct kvm_run *run;
};

struct vm {
	const char *name;
	int fd;
	int vcpu_count, slot_count;
	bool in_kernel_devices;
	struct vcpu vcpus[MAX_VCPUS];
	struct slot slots[MAX_SLOTS];
};

struct multiboot {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
	uint32_t mmap_length, mmap_addr;
	struct {
		uint32_t start, end, string, reserved;
	} module;
	struct {
		uint32_t size;
		uint64_t address, length;
		uint32_t type;
	} __attribute__((packed)) map[MAX_SLOTS];
	char words[1024];
};

static struct vm nested = {
	.name = "nested", .vcpu_count = 1, .slot_count = MOVING_SLOT,
	.slots = {
		{ .gpa = 0, .size = 32 * MIB },
		{ .gpa = 64 * MIB, .size = 4 * MIB },
		{ .gpa = READ_ONLY_AT, .size = 64 * 1024, .flags = KVM_MEM_READONLY },
		[MOVING_SLOT] = { .gpa = MOVING_AT, .size = MIB },
	},
};
static struct vm plain = {
	.name = "plain", .vcpu_count = 1, .slot_count = 1,
	.slots = { { .gpa = 0, .size = 2 * MIB } },
};
static struct vm pair = {
	.name = "pair", .vcpu_count = 2, .slot_count = 2,
	.slots = { { .gpa = 0, .size = 3 * MIB }, { .gpa = 16 * MIB, .size = MIB } },
};

static int kvm;
static struct kvm_cpuid2 *supported_cpuid;
static uint8_t *touched;		/* one byte a frame of L1: an EPT12 leaf uses it */
static uint64_t touched_frames;
static bool line_open;			/* output of the guest without its \n yet */

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	fprintf(stderr, "%svmm: ", line_open ? "\n" : "");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static int control(int fd, unsigned long request, const char *name, unsigned long argument)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		die("%s: %s", name, strerror(errno));
	return result;
}
#define CONTROL(fd, request, argument)	control(fd, request, #request, (unsigned long)(argument))

/* ---- parking ---- */

/* SysRq g: the kernel stops and waits for gdb, in this very process. */
static void enter_kgdb(void)
{
	int trigger = open("/proc/sysrq-trigger", O_WRONLY);

	if (trigger < 0 || write(trigger, "g", 1) != 1)
		die("/proc/sysrq-trigger: %s", strerror(errno));
	close(trigger);
}

/* Whether `names` has a name, with commas in between. */
static bool names_it(const char *names, const char *name)
{
	size_t length = strlen(name);

	for (;; names++) {
		if (!strncmp(names, name, length) && (names[length] == ',' || !names[length]))
			return true;
		names = strchr(names, ',');
		if (!names)
			return false;
	}
}

static void park(const char *name)
{
	const char *kgdb_at = getenv("KGDB_AT");

	printf("LAB {\"park\": \"%s\"}\n", name);
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	if (!kgdb_at)
		asm volatile("xchg %%bx, %%bx" : : : "memory");
	else if (names_it(kgdb_at, name))
		enter_kgdb();
}

static uint64_t frame_of(int pagemap, const char *host)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, sizeof(entry), (uintptr_t)host / PAGE * sizeof(entry))
	    != sizeof(entry))
		return 0;
	return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

static void print_frame(int pagemap, const struct slot *slot, uint64_t offset, const char **comma)
{
	uint64_t pfn = frame_of(pagemap, slot->host + offset);

	if (!pfn)
		return;
	printf("%s{\"gpa\": \"0x%llx\", \"hva\": \"0x%llx\", \"pfn\": \"0x%llx\"}", *comma,
	       (unsigned long long)(slot->gpa + offset),
	       (unsigned long long)(uintptr_t)(slot->host + offset), (unsigned long long)pfn);
	*comma = ", ";
}

/* What L1 said it maps, the ends of each slot, and a spread over what else is there. */
static void print_pagemap(const struct vm *vm)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	const char *comma = "";

	printf("{\"pagemap\": [");
	for (int i = 0; i < vm->slot_count; i++) {
		const struct slot *slot = &vm->slots[i];
		uint64_t step = slot->size / PAGEMAP_SAMPLE & ~(PAGE - 1);

		for (uint64_t offset = 0; offset < slot->size; offset += PAGE) {
			uint64_t frame = (slot->gpa + offset) / PAGE;

			if (touched[frame] || !offset || offset == slot->size - PAGE
			    || (step && offset % step == 0))
				print_frame(pagemap, slot, offset, &comma);
		}
	}
	printf("]}\n");
	close(pagemap);
}

static void print_registers(const struct vcpu *vcpu)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	CONTROL(vcpu->fd, KVM_GET_REGS, &regs);
	CONTROL(vcpu->fd, KVM_GET_SREGS, &sregs);
	printf("{\"regs\": {\"rip\": \"0x%llx\", \"rsp\": \"0x%llx\", \"rflags\": \"0x%llx\", "
	       "\"rax\": \"0x%llx\", \"rbx\": \"0x%llx\", \"rcx\": \"0x%llx\", \"rdx\": \"0x%llx\", "
	       "\"rsi\": \"0x%llx\", \"rdi\": \"0x%llx\", \"cr0\": \"0x%llx\", \"cr2\": \"0x%llx\", "
	       "\"cr3\": \"0x%llx\", \"cr4\": \"0x%llx\", \"efer\": \"0x%llx\"}}\n",
	       regs.rip, regs.rsp, regs.rflags, regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi,
	       regs.rdi, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer);
}

/* Says whether the guest that KVM runs is L2, as KVM sees it. */
static void print_nested_state(const struct vcpu *vcpu)
{
	static struct {
		struct kvm_nested_state state;
		char data[3 * PAGE];
	} nested_state;

	nested_state.state.size = sizeof(nested_state);
	CONTROL(vcpu->fd, KVM_GET_NESTED_STATE, &nested_state);
	printf("{\"nested_state\": {\"guest_mode\": %s, \"vmxon_pa\": \"0x%llx\", "
	       "\"vmcs12_pa\": \"0x%llx\"}}\n",
	       nested_state.state.flags & KVM_STATE_NESTED_GUEST_MODE ? "true" : "false",
	       nested_state.state.hdr.vmx.vmxon_pa, nested_state.state.hdr.vmx.vmcs12_pa);
}

/*
 * KVM_GET_NESTED_STATE freshens the cached vmcs12 from vmcs02 or the shadow VMCS, of what is to be
 * seen stale: so it is asked behind the park point, unless `ask_first`.
 */
static void park_with(const struct vm *vm, const struct vcpu *vcpu, const char *name,
		      bool ask_first)
{
	print_pagemap(vm);
	print_registers(vcpu);
	if (ask_first)
		print_nested_state(vcpu);
	park(name);
	if (!ask_first)
		print_nested_state(vcpu);
}

/* ---- machines ---- */

/* Linux turns large pages off on machines with little memory; not a word if it will not. */
static void allow_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "w");

	if (!file)
		return;
	fputs("madvise", file);
	fclose(file);
}

/* Tells KVM of a slot; with size 0 it is deleted. */
static void set_slot(const struct vm *vm, int number, uint64_t size)
{
	const struct slot *slot = &vm->slots[number];
	struct kvm_userspace_memory_region region = {
		.slot = number, .flags = slot->flags, .guest_phys_addr = slot->gpa,
		.memory_size = size, .userspace_addr = (uintptr_t)slot->host,
	};

	CONTROL(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static void add_slot(struct vm *vm, int number)
{
	struct slot *slot = &vm->slots[number];
	uintptr_t aligned;
	char *host;

	/* On a 2-MiB boundary, so that the host can use large pages. */
	host = mmap(NULL, slot->size + 2 * MIB, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (host == MAP_FAILED)
		die("no memory for %s", vm->name);
	aligned = ((uintptr_t)host + 2 * MIB - 1) & ~(2 * MIB - 1);
	slot->host = (char *)aligned;
	madvise(slot->host, slot->size, MADV_HUGEPAGE);
	if (slot->size > HUGE_FROM)
		madvise(slot->host, HUGE_FROM, MADV_NOHUGEPAGE);
	slot->host[0] = 0;
	slot->host[slot->size - 1] = 0;
	set_slot(vm, number, slot->size);
}

static void add_vcpu(struct vm *vm, int id)
{
	struct vcpu *vcpu = &vm->vcpus[id];
	int size = CONTROL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	vcpu->fd = CONTROL(vm->fd, KVM_CREATE_VCPU, id);
	vcpu->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		die("kvm_run of %s: %s", vm->name, strerror(errno));
	CONTROL(vcpu->fd, KVM_SET_CPUID2, supported_cpuid);
}

static void print_vm(const struct vm *vm)
{
	printf("{\"vm\": \"%s\", \"pid\": %d, \"vm_fd\": %d, \"vcpus\": [", vm->name, getpid(), vm->fd);
	for (int i = 0; i < vm->vcpu_count; i++)
		printf("%s{\"id\": %d, \"fd\": %d}", i ? ", " : "", i, vm->vcpus[i].fd);
	printf("], \"slots\": [");
	for (int i = 0; i < vm->slot_count; i++) {
		const struct slot *slot = &vm->slots[i];

		printf("%s{\"slot\": %d, \"gpa\": \"0x%llx\", \"size\": \"0x%llx\", "
		       "\"hva\": \"0x%llx\", \"flags\": %u}", i ? ", " : "", i,
		       (unsigned long long)slot->gpa, (unsigned long long)slot->size,
		       (unsigned long long)(uintptr_t)slot->host, slot->flags);
	}
	printf("]}\n");
}

static void create_vm(struct vm *vm)
{
	vm->fd = CONTROL(kvm, KVM_CREATE_VM, 0);
	if (vm->in_kernel_devices) {
		CONTROL(vm->fd, KVM_CREATE_IRQCHIP, 0);
		CONTROL(vm->fd, KVM_SET_TSS_ADDR, TSS_AT);
	}
	for (int i = 0; i < vm->slot_count; i++)
		add_slot(vm, i);
	for (int i = 0; i < vm->vcpu_count; i++)
		add_vcpu(vm, i);
	print_vm(vm);
}

/* `size` bytes of the guest's memory, all in one slot. */
static char *guest_memory(const struct vm *vm, uint64_t gpa, uint64_t size)
{
	for (int i = 0; i < vm->slot_count; i++) {
		const struct slot *slot = &vm->slots[i];

		if (gpa >= slot->gpa && gpa - slot->gpa <= slot->size
		    && size <= slot->size - (gpa - slot->gpa))
			return slot->host + (gpa - slot->gpa);
	}
	die("%s has no %llu bytes at 0x%llx", vm->name, (unsigned long long)size,
	    (unsigned long long)gpa);
}

static void sign_read_only_slot(void)
{
	struct slot *slot = &nested.slots[READ_ONLY_SLOT];

	for (uint64_t offset = 0; offset < slot->size; offset += PAGE)
		*(uint64_t *)(slot->host + offset) = SIGNATURE_MARK | (slot->gpa + offset) / PAGE;
}

/* ---- loading L1, as a multiboot loader does ---- */

static char *read_file(const char *path, size_t *size)
{
	struct stat status;
	char *content;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &status) < 0)
		die("%s: %s", path, strerror(errno));
	content = malloc(status.st_size);
	if (!content || read(fd, content, status.st_size) != status.st_size)
		die("%s: cannot be read", path);
	close(fd);
	*size = status.st_size;
	return content;
}

/* Returns the entry; *end is where memory is free again. */
static uint64_t load_elf(const struct vm *vm, const char *path, uint64_t *end)
{
	size_t size;
	char *file = read_file(path, &size);
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
	const Elf64_Phdr *segments = (const Elf64_Phdr *)(file + header->e_phoff);
	uint64_t entry;

	if (size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG)
	    || header->e_ident[EI_CLASS] != ELFCLASS64)
		die("%s is no 64-bit ELF file", path);
	entry = header->e_entry;
	*end = 0;
	for (int i = 0; i < header->e_phnum; i++) {
		const Elf64_Phdr *s = &segments[i];
		char *to;

		if (s->p_type != PT_LOAD)
			continue;
		to = guest_memory(vm, s->p_paddr, s->p_memsz);
		memset(to, 0, s->p_memsz);
		memcpy(to, file + s->p_offset, s->p_filesz);
		if (s->p_paddr + s->p_memsz > *end)
			*end = s->p_paddr + s->p_memsz;
	}
	free(file);
	return entry;
}

static void write_multiboot(const struct vm *vm, uint64_t module, size_t module_size,
			    int words, char **word)
{
	struct multiboot *info = (struct multiboot *)guest_memory(vm, MULTIBOOT_AT, sizeof(*info));
	size_t used;

	*info = (struct multiboot){
		.flags = MULTIBOOT_FLAGS,
		.mem_lower = 640, .mem_upper = vm->slots[0].size / 1024 - 1024,
		.cmdline = MULTIBOOT_AT + offsetof(struct multiboot, words),
		.mods_count = 1, .mods_addr = MULTIBOOT_AT + offsetof(struct multiboot, module),
		.module = { .start = module, .end = module + module_size },
		.mmap_length = vm->slot_count * sizeof(info->map[0]),
		.mmap_addr = MULTIBOOT_AT + offsetof(struct multiboot, map),
	};
	for (int i = 0; i < vm->slot_count; i++) {
		info->map[i].size = sizeof(info->map[i]) - sizeof(info->map[i].size);
		info->map[i].address = vm->slots[i].gpa;
		info->map[i].length = vm->slots[i].size;
		info->map[i].type = vm->slots[i].flags & KVM_MEM_READONLY ? MMAP_RESERVED : MMAP_RAM;
	}
	/* The first of two equal words counts: the caller's come before ours. */
	used = snprintf(info->words, sizeof(info->words), "l1.elf vmm=1");
	for (int i = 0; i < words; i++)
		used += snprintf(info->words + used, sizeof(info->words) - used, " %s", word[i]);
	used += snprintf(info->words + used, sizeof(info->words) - used, " console=line");
	if (used >= sizeof(info->words))
		die("the command line is too long");
}

static void load_l1(const struct vm *vm, const char *elf, const char *scenarios,
		    int words, char **word)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .db = 1, .g = 1,
	};
	const struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1,
	};
	struct kvm_regs regs = {
		.rax = MULTIBOOT_LOADED, .rbx = MULTIBOOT_AT, .rflags = RFLAGS_FIXED,
	};
	struct kvm_sregs sregs;
	uint64_t end;
	size_t size;
	char *module = read_file(scenarios, &size);

	regs.rip = load_elf(vm, elf, &end);
	end = (end + PAGE - 1) & ~(PAGE - 1);
	memcpy(guest_memory(vm, end, size), module, size);
	free(module);
	write_multiboot(vm, end, size, words, word);

	CONTROL(vm->vcpus[0].fd, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 |= CR0_PE;
	CONTROL(vm->vcpus[0].fd, KVM_SET_SREGS, &sregs);
	CONTROL(vm->vcpus[0].fd, KVM_SET_REGS, &regs);
}

/* ---- running ---- */

static void print_bytes(const char *bytes, size_t count)
{
	if (!count)
		return;
	fwrite(bytes, 1, count, stdout);
	line_open = bytes[count - 1] != '\n';
}

static void print_line(const struct vm *vm, uint64_t gpa)
{
	const char *text = guest_memory(vm, gpa, 1);

	print_bytes(text, strlen(text));
}

static void note_touched(uint64_t frame)
{
	if (frame < touched_frames)
		touched[frame] = 1;
}

/* What L1 wants done to the slot that moves; then it parks, before KVM runs a guest again. */
static void change_slot(struct vm *vm, const struct vcpu *vcpu, uint32_t what)
{
	static const char *const point[] = {
		[SLOT_DELETE] = "slot-deleted", [SLOT_BACK] = "slot-back", [SLOT_MOVE] = "slot-moved",
	};

	if (what >= COUNT(point))
		die("nothing known to do to a slot: %u", what);
	if (what == SLOT_MOVE)
		vm->slots[MOVING_SLOT].gpa = MOVED_TO;
	set_slot(vm, MOVING_SLOT, what == SLOT_DELETE ? 0 : vm->slots[MOVING_SLOT].size);
	vm->slot_count = what == SLOT_DELETE ? MOVING_SLOT : MAX_SLOTS;
	print_vm(vm);
	park_with(vm, vcpu, point[what], false);
}

/* Returns false if the guest has finished; its status is then in *status. */
static bool port_written(struct vm *vm, const struct vcpu *vcpu, uint16_t port,
			 const void *data, uint32_t size, uint32_t *status)
{
	uint32_t value = 0;

	memcpy(&value, data, size);
	switch (port) {
	case PORT_LINE:
		print_line(vm, value);
		break;
	case PORT_PARK_L1_EXIT:
		park_with(vm, vcpu, "l1-exit", true);
		break;
	case PORT_PARK_L2:
		park_with(vm, vcpu, "l2", false);
		break;
	case PORT_PARK_NAMED:
		park_with(vm, vcpu, guest_memory(vm, value, 1), false);
		break;
	case PORT_SLOT:
		change_slot(vm, vcpu, value);
		break;
	case PORT_TOUCHED:
		note_touched(value);
		break;
	case PORT_DONE:
		*status = value;
		return false;
	}
	return true;
}

static bool handle_io(struct vm *vm, const struct vcpu *vcpu, uint32_t *status)
{
	struct kvm_run *run = vcpu->run;
	char *data = (char *)run + run->io.data_offset;

	if (run->io.direction == KVM_EXIT_IO_IN) {
		int idle = run->io.port == PORT_COM1_STATUS ? LINE_STATUS_IDLE : 0xff;

		memset(data, idle, run->io.size * run->io.count);
		return true;
	}
	if (run->io.port == PORT_COM1) {
		print_bytes(data, run->io.size * run->io.count);
		return true;
	}
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		if (!port_written(vm, vcpu, run->io.port, data, run->io.size, status))
			return false;
	return true;
}

static void __attribute__((noreturn)) report_and_die(const struct vcpu *vcpu, const char *what,
						     unsigned long long detail)
{
	if (line_open)
		putchar('\n');
	print_registers(vcpu);
	die("%s (0x%llx)", what, detail);
}

/* Runs until the guest finishes or halts; returns the status that it gave. */
static uint32_t run(struct vm *vm, const struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint32_t status = 0;

	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0 && errno != EINTR)
			report_and_die(vcpu, strerror(errno), errno);
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			if (!handle_io(vm, vcpu, &status))
				return status;
			break;
		case KVM_EXIT_MMIO:	/* nothing is there: ones */
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, run->mmio.len);
			break;
		case KVM_EXIT_HLT:
			return status;
		case KVM_EXIT_INTR:
			break;
		case KVM_EXIT_SHUTDOWN:
			report_and_die(vcpu, "the guest shut down (triple fault)", 0);
		case KVM_EXIT_FAIL_ENTRY:
			report_and_die(vcpu, "VM entry failed",
				       run->fail_entry.hardware_entry_failure_reason);
		case KVM_EXIT_INTERNAL_ERROR:
			report_and_die(vcpu, "KVM internal error", run->internal.suberror);
		default:
			report_and_die(vcpu, "unexpected exit reason", run->exit_reason);
		}
	}
}

/* Machines that do not nest: each processor runs one HLT in real mode. */
static void run_real_mode(struct vm *vm)
{
	*guest_memory(vm, REAL_MODE_CODE, 1) = (char)0xf4;
	for (int i = 0; i < vm->vcpu_count; i++) {
		const struct vcpu *vcpu = &vm->vcpus[i];
		struct kvm_regs regs = { .rip = REAL_MODE_CODE, .rflags = RFLAGS_FIXED };
		struct kvm_sregs sregs;

		CONTROL(vcpu->fd, KVM_GET_SREGS, &sregs);
		sregs.cs.base = 0;
		sregs.cs.selector = 0;
		CONTROL(vcpu->fd, KVM_SET_SREGS, &sregs);
		CONTROL(vcpu->fd, KVM_SET_REGS, &regs);
		run(vm, vcpu);
	}
}

static void open_kvm(void)
{
	int entries = 256;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm: %s", strerror(errno));
	supported_cpuid = calloc(1, sizeof(*supported_cpuid)
				    + entries * sizeof(supported_cpuid->entries[0]));
	touched_frames = (READ_ONLY_AT + 64 * 1024) / PAGE;
	touched = calloc(1, touched_frames);
	if (!supported_cpuid || !touched)
		die("out of memory");
	supported_cpuid->nent = entries;
	CONTROL(kvm, KVM_GET_SUPPORTED_CPUID, supported_cpuid);
}

static void suit_l1(int words, char **word)
{
	for (int i = 0; i < words; i++)
		if (!strcmp(word[i], "l1=states")) {
			nested.slot_count = MAX_SLOTS;
			nested.in_kernel_devices = true;
		}
}

int main(int count, char **argument)
{
	struct vm *const vms[] = { &nested, &plain, &pair };
	uint32_t status;

	if (count == 3 && !strcmp(argument[1], "--park")) {
		park(argument[2]);
		return 0;
	}
	if (count < 3) {
		fprintf(stderr, "usage: vmm L1.ELF SCENARIOS.BIN [WORD=VALUE...] | vmm --park NAME\n");
		return 2;
	}
	suit_l1(count - 3, argument + 3);
	open_kvm();
	allow_huge_pages();
	for (size_t i = 0; i < COUNT(vms); i++)
		create_vm(vms[i]);
	run_real_mode(&plain);
	run_real_mode(&pair);
	sign_read_only_slot();
	load_l1(&nested, argument[1], argument[2], count - 3, argument + 3);
	status = run(&nested, &nested.vcpus[0]);
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	return status;
}
