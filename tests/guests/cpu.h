/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The instructions that C has no words for. */
#ifndef CPU_H
#define CPU_H

#include "types.h"

#define MSR_FEATURE_CONTROL		0x3a
#define FEATURE_CONTROL_LOCKED		BIT(0)
#define FEATURE_CONTROL_VMXON		BIT(2)
#define MSR_PAT				0x277
#define MSR_VMX_BASIC			0x480
#define MSR_VMX_PINBASED		0x481
#define MSR_VMX_PROCBASED		0x482
#define MSR_VMX_EXIT			0x483
#define MSR_VMX_ENTRY			0x484
#define MSR_VMX_CR0_FIXED0		0x486
#define MSR_VMX_CR0_FIXED1		0x487
#define MSR_VMX_CR4_FIXED0		0x488
#define MSR_VMX_CR4_FIXED1		0x489
#define MSR_VMX_PROCBASED2		0x48b
#define MSR_VMX_EPT_VPID_CAP		0x48c
#define MSR_VMX_TRUE_PINBASED		0x48d
#define MSR_VMX_TRUE_PROCBASED		0x48e
#define MSR_VMX_TRUE_EXIT		0x48f
#define MSR_VMX_TRUE_ENTRY		0x490
#define MSR_EFER			0xc0000080
#define EFER_LME			BIT(8)
#define EFER_LMA			BIT(10)
#define EFER_NXE			BIT(11)

#define CR0_PE				BIT(0)
#define CR0_NE				BIT(5)
#define CR0_WP				BIT(16)
#define CR0_PG				BIT(31)
#define CR4_PAE				BIT(5)
#define CR4_VMXE			BIT(13)

struct cpuid {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(u32 leaf)
{
	struct cpuid c;

	asm volatile("cpuid" : "=a"(c.eax), "=b"(c.ebx), "=c"(c.ecx), "=d"(c.edx)
		     : "a"(leaf), "c"(0));
	return c;
}

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

static inline void outb(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outl(u16 port, u32 value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline u8 inb(u16 port)
{
	u8 value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void rep_outsb(u16 port, const void *from, size_t count)
{
	asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}

#define READ_REGISTER(name)						\
static inline u64 read_##name(void)					\
{									\
	u64 value;							\
									\
	asm volatile("mov %%" #name ", %0" : "=r"(value));		\
	return value;							\
}
READ_REGISTER(cr0)
READ_REGISTER(cr2)
READ_REGISTER(cr3)
READ_REGISTER(cr4)

static inline void write_cr0(u64 value)
{
	asm volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline void write_cr4(u64 value)
{
	asm volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

#endif
