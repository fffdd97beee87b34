// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMM that gives a Linux L1 a Linux L2: one processor with KVM's own interrupt controllers and
 * timer, a serial port at 0x3f8, and nothing else.
 *
 *	l2linux BZIMAGE INITRAMFS COMMAND-LINE
 *
 * The kernel is entered by the 64-bit boot protocol (Linux Documentation/x86/boot.rst).  Each line
 * that L2 ends on its serial port after MARK has this VMM take all of L2's memory out of the EPT
 * and leave its content, as a host that ages or moves pages does: KVM's MMU notifier drops the
 * entries, and L2 faults on each page anew.  Ends when L2 resets itself, with exit status 0.
 *
 * L2's memory: one slot, the lower half of which L1 may map by large pages.
 */
#include <asm/bootparam.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm.h"

#define RAM		(96 * MIB)
#define LOW_END		0x9f000ull
#define PML4		0x1000ull
#define PDPT		0x2000ull
#define PD		0x3000ull
#define ZERO_PAGE	0x7000ull
#define COMMAND_LINE	0x20000ull
#define INITRAMFS	(RAM - 4 * MIB)
#define LARGE		(2 * MIB)
#define ENTRY_64	0x200
#define SECTOR		512
#define HEADER_AT	0x1f1		/* in the bzImage */
#define HEADER_END_AT	0x201		/* the byte that tells how long it is, from 0x202 on */
#define LOADER_UNDEFINED 0xff
#define E820_RAM_TYPE	1
#define MARK		"LAB "

#define COM1		0x3f8
#define COM1_IRQ	4
#define CMOS_DATA	0x71
#define KEYBOARD	0x64		/* writing 0xfe resets */
#define RESET		0xfe

#define IER_THRI	2
#define IIR_NONE	1
#define IIR_THRI	2
#define LCR_DLAB	0x80
#define MCR_LOOP	0x10
#define LSR_IDLE	0x60
#define MSR_READY	0xb0		/* CTS, DSR, DCD */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH };

static int kvm, vm, vcpu;
static struct kvm_run *kvm_run;
static char *ram;
static uint8_t serial[8];
static bool sent;		/* the transmitter has become empty, and L2 does not know yet */

static void make_vm(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM };
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	char *host;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	vm = CONTROL(kvm, KVM_CREATE_VM, 0);
	CONTROL(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	CONTROL(vm, KVM_CREATE_IRQCHIP, 0);
	CONTROL(vm, KVM_CREATE_PIT2, &pit);
	host = mmap(NULL, RAM + LARGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (host == MAP_FAILED)
		die("mmap");
	ram = (char *)(((uintptr_t)host + LARGE - 1) & ~(LARGE - 1));
	madvise(ram, RAM / 2, MADV_HUGEPAGE);
	madvise(ram + RAM / 2, RAM / 2, MADV_NOHUGEPAGE);
	region.userspace_addr = (uintptr_t)ram;
	CONTROL(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void make_vcpu(void)
{
	vcpu = CONTROL(vm, KVM_CREATE_VCPU, 0);
	kvm_run = mmap(NULL, CONTROL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		       MAP_SHARED, vcpu, 0);
	if (kvm_run == MAP_FAILED)
		die("kvm_run");
	copy_cpuid(kvm, vcpu);
}

static uint64_t load(const char *path, uint64_t gpa, off_t from)
{
	struct stat status;
	uint64_t size, done = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status) < 0)
		die(path);
	size = status.st_size - from;
	if (gpa + size > RAM)
		die("L2's memory is too small");
	while (done < size) {
		ssize_t count = pread(fd, ram + gpa + done, size - done, from + done);

		if (count <= 0)
			die(path);
		done += count;
	}
	close(fd);
	return size;
}

static void add_memory(struct boot_params *params, uint64_t from, uint64_t to)
{
	params->e820_table[params->e820_entries++] =
		(struct boot_e820_entry){ .addr = from, .size = to - from, .type = E820_RAM_TYPE };
}

/* The kernel at the address that it prefers; where it is entered. */
static uint64_t load_kernel(const char *path, struct boot_params *params)
{
	uint8_t start[HEADER_AT + sizeof(params->hdr)];
	struct setup_header *header = &params->hdr;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, start, sizeof(start)) != sizeof(start))
		die(path);
	close(fd);
	memcpy(header, start + HEADER_AT, HEADER_END_AT + 1 + start[HEADER_END_AT] - HEADER_AT);
	if (header->header != 0x53726448 || !(header->xloadflags & XLF_KERNEL_64))
		die("no 64-bit bzImage");
	if (header->pref_address + header->init_size > INITRAMFS)
		die("L2's memory is too small");
	load(path, header->pref_address, (header->setup_sects + 1) * SECTOR);
	return header->pref_address + ENTRY_64;
}

/* Identity, 0..1 GiB. */
static void write_tables(void)
{
	*(uint64_t *)(ram + PML4) = PDPT | PTE_RW;
	*(uint64_t *)(ram + PDPT) = PD | PTE_RW;
	for (uint64_t i = 0; i < 512; i++)
		((uint64_t *)(ram + PD))[i] = i * LARGE | PTE_RW | PTE_LARGE;
}

static void prepare(const char *kernel, const char *initramfs, const char *words)
{
	struct boot_params *params = (struct boot_params *)(ram + ZERO_PAGE);
	struct kvm_regs regs = { .rsi = ZERO_PAGE, .rflags = RFLAGS_FIXED };

	regs.rip = load_kernel(kernel, params);
	params->hdr.type_of_loader = LOADER_UNDEFINED;
	params->hdr.ramdisk_image = INITRAMFS;
	params->hdr.ramdisk_size = load(initramfs, INITRAMFS, 0);
	params->hdr.cmd_line_ptr = COMMAND_LINE;
	strcpy(ram + COMMAND_LINE, words);
	add_memory(params, 0, LOW_END);
	add_memory(params, MIB, RAM);
	write_tables();
	set_long_mode(vcpu, PML4);
	CONTROL(vcpu, KVM_SET_REGS, &regs);
}

/* All of L2's memory leaves the EPT, and keeps its content. */
static void unmap_all(void)
{
	if (mprotect(ram, RAM, PROT_NONE) < 0 || mprotect(ram, RAM, PROT_READ | PROT_WRITE) < 0)
		die("mprotect");
}

static void said(char letter)
{
	static char line[256];
	static size_t length;
	static bool marked;

	putchar(letter);
	if (letter != '\n') {
		if (length < sizeof(line) - 1)
			line[length++] = letter;
		return;
	}
	fflush(stdout);
	if (marked)
		unmap_all();
	marked |= !strncmp(line, MARK, strlen(MARK));
	length = 0;
	memset(line, 0, sizeof(line));
}

static void set_interrupt(void)
{
	struct kvm_irq_level level = { .irq = COM1_IRQ, .level = sent && serial[IER] & IER_THRI };

	CONTROL(vm, KVM_IRQ_LINE, &level);
}

static uint8_t serial_read(int place)
{
	uint8_t value = serial[place];

	if (place == IIR) {
		value = sent && serial[IER] & IER_THRI ? IIR_THRI : IIR_NONE;
		sent &= value == IIR_NONE;
		set_interrupt();
	} else if (place == LSR) {
		value = LSR_IDLE;
	} else if (place == MSR) {	/* with LOOP, what MCR sends out comes back in */
		uint8_t out = serial[MCR];

		value = MSR_READY;
		if (out & MCR_LOOP)
			value = (out & 0x0c) << 4 | (out & 2) << 3 | (out & 1) << 5;
	} else if (place == DATA) {
		value = 0;
	}
	return value;
}

static void serial_write(int place, uint8_t value)
{
	if (place <= IER && serial[LCR] & LCR_DLAB)
		return;			/* the divisor */
	if (place == IIR || place == LSR || place == MSR)
		return;
	serial[place] = place == IER ? value & 0xf : value;
	if (place == DATA && !(serial[MCR] & MCR_LOOP))
		said(value);
	sent |= place == DATA || place == IER;
	set_interrupt();
}

/* Whether L2 goes on. */
static bool port_accessed(void)
{
	uint8_t *data = (uint8_t *)kvm_run + kvm_run->io.data_offset;
	const uint16_t port = kvm_run->io.port;

	for (uint32_t i = 0; i < kvm_run->io.count; i++, data += kvm_run->io.size) {
		const bool out = kvm_run->io.direction == KVM_EXIT_IO_OUT;

		if (port == KEYBOARD && out && *data == RESET)
			return false;
		if (port >= COM1 && port < COM1 + sizeof(serial) && out)
			serial_write(port - COM1, *data);
		else if (port >= COM1 && port < COM1 + sizeof(serial))
			*data = serial_read(port - COM1);
		else if (!out)
			memset(data, port == CMOS_DATA ? 0 : 0xff, kvm_run->io.size);
	}
	return true;
}

static void device_accessed(void)
{
	if (!kvm_run->mmio.is_write)
		memset(kvm_run->mmio.data, 0xff, sizeof(kvm_run->mmio.data));
}

int main(int count, char **argument)
{
	if (count != 4) {
		printf("usage: l2linux BZIMAGE INITRAMFS COMMAND-LINE\n");
		return 2;
	}
	make_vm();
	make_vcpu();
	prepare(argument[1], argument[2], argument[3]);
	for (;;) {
		CONTROL(vcpu, KVM_RUN, 0);
		switch (kvm_run->exit_reason) {
		case KVM_EXIT_IO:
			if (port_accessed())
				break;
			/* fall through */
		case KVM_EXIT_SHUTDOWN:
			printf("l2linux: L2 has reset itself\n");
			return kvm_run->exit_reason == KVM_EXIT_SHUTDOWN;
		case KVM_EXIT_MMIO:
			device_accessed();
			break;
		default:
			printf("l2linux: exit reason %u of KVM_RUN\n", kvm_run->exit_reason);
			return 1;
		}
	}
}
