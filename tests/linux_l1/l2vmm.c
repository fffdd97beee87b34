// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMM that runs in a Linux L1 and gives it an L2: a few instructions in 64-bit mode that touch
 * memory in the ways in which KVM, as L1, sets up its EPT.  What L1 makes of it is Linux' doing.
 * Exit status 0 if L2 came to its end, and saw what it should.
 *
 * L2 physical (and, with the identity mapping, linear) addresses:
 *
 *	0x0		2 MiB of RAM in small pages: page tables, code, data, stack
 *	0x400000	4 MiB of RAM that L1 may map by large pages
 *	0x1000000	64 KiB read-only, until L1 takes it away
 *	0x2000000	2 MiB of RAM whose dirty pages L1 logs
 *	0x3000000	nothing: a device of this VMM
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm.h"

#define LOW		(2 * MIB)	/* mapped by 4-KiB pages in L2's own tables */

#define PML4		0x1000ull
#define PDPT		0x2000ull
#define PD		0x3000ull
#define PT		0x4000ull
#define FAR_PD		0x100000ull
#define CODE		0x10000ull
#define STACK		0x21000ull
#define DEVICE_SAYS	0x4e455054u	/* to every read */

#define PORT_PHASE	0x510		/* L2 tells which phase begins */
#define PORT_CHECK	0x511		/* what L2 has read from the device */
#define PHASE_RELOG	5		/* L1 is to log the same pages anew */
#define PHASE_DISCARD	7		/* L1 is to take memory away */
#define DISCARDED	0x31000ull	/* a page that L2 has used */

struct slot {
	uint64_t gpa, size;
	uint32_t flags;
	int advice;
	char *host;
};

static struct slot slots[] = {
	{ .gpa = 0, .size = 2 * MIB, .advice = MADV_NOHUGEPAGE },
	{ .gpa = 4 * MIB, .size = 4 * MIB, .advice = MADV_HUGEPAGE },
	{ .gpa = 16 * MIB, .size = 64 * 1024, .flags = KVM_MEM_READONLY, .advice = MADV_NOHUGEPAGE },
	{ .gpa = 32 * MIB, .size = 2 * MIB, .flags = KVM_MEM_LOG_DIRTY_PAGES,
	  .advice = MADV_NOHUGEPAGE },
};
#define READ_ONLY	2
#define LOGGED		3

/* L2.  Each phase is announced at the port, so that its exits can be told apart in L1's trace. */
extern const char l2_start[], l2_end[];
asm(".pushsection .rodata\n"
    ".code64\n"
    ".macro phase number\n"
    "	mov $\\number, %al\n"
    "	mov $0x510, %dx\n"
    "	out %al, %dx\n"
    ".endm\n"
    "l2_start:\n"
    "	phase 1\n"			/* RAM in small pages: read, write, both, fetch, stack */
    "	mov 0x30000, %eax\n"
    "	movl $1, 0x31000\n"
    "	lock incl 0x32000\n"
    "	movb $0xc3, 0x33000\n"		/* RET */
    "	mov $0x33000, %ebx\n"
    "	call *%rbx\n"
    "	mov $0x34ffc, %ebx\n"		/* across two pages */
    "	mov (%rbx), %rax\n"
    "	phase 2\n"			/* RAM in large pages: read, then fetch from it */
    "	mov 0x400000, %eax\n"
    "	movb $0xc3, 0x400100\n"
    "	mov $0x400100, %ebx\n"
    "	call *%rbx\n"
    "	movl $1, 0x612000\n"
    "	phase 3\n"			/* read-only memory: read; write, which the VMM gets */
    "	mov 0x1000000, %eax\n"
    "	movl $1, 0x1000008\n"
    "	movl $1, 0x1001000\n"
    "	phase 4\n"			/* the device: the first access, and later ones */
    "	mov 0x3000000, %eax\n"
    "	mov $0x511, %dx\n"
    "	out %eax, %dx\n"
    "	mov 0x3000000, %eax\n"
    "	out %eax, %dx\n"
    "	mov %eax, 0x3000010\n"
    "	movl $7, 0x3001000\n"
    "	movl $8, 0x3001008\n"
    "	mov 0x30007fc, %rax\n"
    "	mov 0x2000000, %eax\n"		/* logged memory: read, then write; write at once */
    "	movl $1, 0x2000000\n"
    "	movl $1, 0x2001000\n"
    "	phase 5\n"			/* and again after L1 has read the log */
    "	movl $2, 0x2000000\n"
    "	movl $2, 0x2001000\n"
    "	movl $2, 0x2000000\n"
    "	phase 6\n"			/* a table of L2's own that nothing has used yet */
    "	movl $1, 0x40000000\n"		/* 1 GiB: leads to 0x400000, by PD at 0x100000 */
    "	mov $0x40200000, %eax\n"
    "	mov (%rax), %eax\n"
    "	phase 7\n"			/* what was there before: a page, the read-only memory */
    "	mov 0x31000, %eax\n"
    "	mov 0x1000000, %eax\n"
    "	mov 0x1000004, %eax\n"
    "	hlt\n"
    "l2_end:\n"
    ".popsection\n");

static int kvm, vm, vcpu;
static struct kvm_run *kvm_run;

/* On a 2-MiB boundary, so that L1 can use large pages where it is told to. */
static void add_slot(int number)
{
	struct slot *slot = &slots[number];
	struct kvm_userspace_memory_region region = {
		.slot = number, .flags = slot->flags,
		.guest_phys_addr = slot->gpa, .memory_size = slot->size,
	};
	char *host = mmap(NULL, slot->size + 2 * MIB, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (host == MAP_FAILED)
		die("mmap");
	slot->host = (char *)(((uintptr_t)host + 2 * MIB - 1) & ~(2 * MIB - 1));
	madvise(slot->host, slot->size, slot->advice);
	for (uint64_t offset = 0; offset < slot->size; offset += PAGE)
		slot->host[offset] = 0;
	region.userspace_addr = (uintptr_t)slot->host;
	CONTROL(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static uint64_t *table(uint64_t gpa)
{
	return (uint64_t *)(slots[0].host + gpa);
}

/* Linear 0..1 GiB is physical; 1 GiB + n leads to 4 MiB + n through tables used by nothing else. */
static void write_tables(void)
{
	table(PML4)[0] = PDPT | PTE_RW;
	table(PDPT)[0] = PD | PTE_RW;
	table(PDPT)[1] = FAR_PD | PTE_RW;
	table(PD)[0] = PT | PTE_RW;
	for (uint64_t i = 0; i < 512; i++)
		table(PT)[i] = i * PAGE | PTE_RW;
	for (uint64_t i = 1; i < 512; i++)
		table(PD)[i] = i * LOW | PTE_RW | PTE_LARGE;
	table(FAR_PD)[0] = 4 * MIB | PTE_RW | PTE_LARGE;
	table(FAR_PD)[1] = 6 * MIB | PTE_RW | PTE_LARGE;
}

static void set_registers(void)
{
	struct kvm_regs regs = { .rip = CODE, .rsp = STACK, .rflags = RFLAGS_FIXED };

	set_long_mode(vcpu, PML4);
	CONTROL(vcpu, KVM_SET_REGS, &regs);
}

static void create(void)
{
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	vm = CONTROL(kvm, KVM_CREATE_VM, 0);
	for (size_t i = 0; i < COUNT(slots); i++)
		add_slot(i);
	vcpu = CONTROL(vm, KVM_CREATE_VCPU, 0);
	kvm_run = mmap(NULL, CONTROL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		       MAP_SHARED, vcpu, 0);
	if (kvm_run == MAP_FAILED)
		die("kvm_run");
	copy_cpuid(kvm, vcpu);
	write_tables();
	memcpy(slots[0].host + CODE, l2_start, l2_end - l2_start);
	set_registers();
}

static void read_dirty_log(void)
{
	uint64_t bitmap[8] = { 0 };
	struct kvm_dirty_log log = { .slot = LOGGED, .dirty_bitmap = bitmap };

	CONTROL(vm, KVM_GET_DIRTY_LOG, &log);
	printf("l2vmm: dirty 0x%llx\n", (unsigned long long)bitmap[0]);
}

/* One page, which comes back as zeroes, and a whole slot, for which KVM drops its root. */
static void discard(void)
{
	struct kvm_userspace_memory_region nothing = { .slot = READ_ONLY };

	if (madvise(slots[0].host + DISCARDED, PAGE, MADV_DONTNEED) < 0)
		die("madvise");
	CONTROL(vm, KVM_SET_USER_MEMORY_REGION, &nothing);
}

static void port_written(void)
{
	uint32_t value = 0;

	memcpy(&value, (char *)kvm_run + kvm_run->io.data_offset, kvm_run->io.size);
	if (kvm_run->io.port == PORT_PHASE && value == PHASE_RELOG)
		read_dirty_log();
	if (kvm_run->io.port == PORT_PHASE && value == PHASE_DISCARD)
		discard();
	if (kvm_run->io.port == PORT_CHECK && value != DEVICE_SAYS)
		die("L2 read something else from the device");
}

static void device_accessed(void)
{
	const uint64_t says = DEVICE_SAYS;

	if (!kvm_run->mmio.is_write)
		memcpy(kvm_run->mmio.data, &says, kvm_run->mmio.len);
}

int main(void)
{
	create();
	for (;;) {
		CONTROL(vcpu, KVM_RUN, 0);
		switch (kvm_run->exit_reason) {
		case KVM_EXIT_IO:
			port_written();
			break;
		case KVM_EXIT_MMIO:
			device_accessed();
			break;
		case KVM_EXIT_HLT:
			printf("l2vmm: L2 is done\n");
			return 0;
		default:
			printf("l2vmm: exit reason %u of KVM_RUN\n", kvm_run->exit_reason);
			return 1;
		}
	}
}
