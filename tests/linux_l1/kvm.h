// SPDX-License-Identifier: GPL-2.0-or-later
/* What the VMMs of this folder share: KVM's calls, which end the program where they fail. */
#pragma once
#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))
#define MIB		0x100000ull
#define PAGE		0x1000ull

#define PTE_RW		3ull
#define PTE_LARGE	0x80ull
#define CR0_VALUE	0x80000011ull	/* PG, ET, PE */
#define CR4_PAE		0x20ull
#define EFER_LONG	0x500ull	/* LME, LMA */
#define RFLAGS_FIXED	2

static inline void __attribute__((noreturn)) die(const char *what)
{
	printf("%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

static inline int control(int fd, unsigned long request, const char *name, void *argument)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		die(name);
	return result;
}
#define CONTROL(fd, request, argument)	control(fd, request, #request, (void *)(argument))

static inline void copy_cpuid(int kvm, int vcpu)
{
	static struct {
		struct kvm_cpuid2 cpuid;
		struct kvm_cpuid_entry2 entries[256];
	} supported = { .cpuid.nent = 256 };

	CONTROL(kvm, KVM_GET_SUPPORTED_CPUID, &supported);
	CONTROL(vcpu, KVM_SET_CPUID2, &supported);
}

/* 64-bit mode, flat segments, paging from CR3 on. */
static inline void set_long_mode(int vcpu, uint64_t cr3)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 0x10, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1,
	};
	const struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	CONTROL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = CR0_VALUE;
	sregs.cr3 = cr3;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LONG;
	CONTROL(vcpu, KVM_SET_SREGS, &sregs);
}
