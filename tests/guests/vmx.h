/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VMX_H
#define VMX_H

#include "types.h"

enum vmcs_field {
	GUEST_ES_SELECTOR = 0x0800,
	GUEST_CS_SELECTOR = 0x0802,
	GUEST_SS_SELECTOR = 0x0804,
	GUEST_DS_SELECTOR = 0x0806,
	GUEST_TR_SELECTOR = 0x080e,
	HOST_ES_SELECTOR = 0x0c00,
	HOST_CS_SELECTOR = 0x0c02,
	HOST_SS_SELECTOR = 0x0c04,
	HOST_DS_SELECTOR = 0x0c06,
	HOST_FS_SELECTOR = 0x0c08,
	HOST_GS_SELECTOR = 0x0c0a,
	HOST_TR_SELECTOR = 0x0c0c,
	MSR_BITMAP = 0x2004,
	APIC_ACCESS_ADDRESS = 0x2014,
	EPT_POINTER = 0x201a,
	GUEST_PHYSICAL_ADDRESS = 0x2400,
	VMCS_LINK_POINTER = 0x2800,
	GUEST_DEBUGCTL = 0x2802,
	GUEST_PAT = 0x2804,
	GUEST_EFER = 0x2806,
	GUEST_PDPTE0 = 0x280a,
	HOST_PAT = 0x2c00,
	HOST_EFER = 0x2c02,
	PIN_CONTROLS = 0x4000,
	CPU_CONTROLS = 0x4002,
	EXCEPTION_BITMAP = 0x4004,
	EXIT_CONTROLS = 0x400c,
	ENTRY_CONTROLS = 0x4012,
	CPU_CONTROLS_2 = 0x401e,
	VM_INSTRUCTION_ERROR = 0x4400,
	EXIT_REASON = 0x4402,
	EXIT_INTERRUPTION = 0x4404,
	EXIT_ERROR_CODE = 0x4406,
	GUEST_ES_LIMIT = 0x4800,
	GUEST_CS_LIMIT = 0x4802,
	GUEST_SS_LIMIT = 0x4804,
	GUEST_DS_LIMIT = 0x4806,
	GUEST_TR_LIMIT = 0x480e,
	GUEST_ES_RIGHTS = 0x4814,
	GUEST_CS_RIGHTS = 0x4816,
	GUEST_SS_RIGHTS = 0x4818,
	GUEST_DS_RIGHTS = 0x481a,
	GUEST_TR_RIGHTS = 0x4822,
	GUEST_PREEMPTION_TIMER = 0x482e,
	EXIT_QUALIFICATION = 0x6400,
	GUEST_LINEAR_ADDRESS = 0x640a,
	GUEST_CR0 = 0x6800,
	GUEST_CR3 = 0x6802,
	GUEST_CR4 = 0x6804,
	GUEST_DR7 = 0x681a,
	GUEST_RSP = 0x681c,
	GUEST_RIP = 0x681e,
	GUEST_RFLAGS = 0x6820,
	HOST_CR0 = 0x6c00,
	HOST_CR3 = 0x6c02,
	HOST_CR4 = 0x6c04,
	HOST_TR_BASE = 0x6c0a,
	HOST_GDTR_BASE = 0x6c0c,
	HOST_IDTR_BASE = 0x6c0e,
	HOST_RSP = 0x6c14,
	HOST_RIP = 0x6c16,
};

#define REASON_EXCEPTION		0
#define REASON_VMCALL			18
#define REASON_APIC_ACCESS		44
#define REASON_EPT_VIOLATION		48
#define REASON_EPT_MISCONFIGURATION	49
#define REASON_ENTRY_FAILURE		BIT(31)

#define PIN_PREEMPTION_TIMER		BIT(6)
#define CPU_HLT_EXITING			BIT(7)
#define CPU_USE_MSR_BITMAPS		BIT(28)
#define CPU_SECONDARY			BIT(31)
#define CPU2_VIRTUAL_APIC_ACCESSES	BIT(0)
#define CPU2_EPT			BIT(1)
#define EXIT_SAVE_DEBUG			BIT(2)
#define EXIT_HOST_64			BIT(9)
#define EXIT_SAVE_PAT			BIT(18)
#define EXIT_LOAD_PAT			BIT(19)
#define EXIT_SAVE_EFER			BIT(20)
#define EXIT_LOAD_EFER			BIT(21)
#define EXIT_SAVE_TIMER			BIT(22)
#define ENTRY_LOAD_DEBUG		BIT(2)
#define ENTRY_GUEST_64			BIT(9)
#define ENTRY_LOAD_PAT			BIT(14)
#define ENTRY_LOAD_EFER			BIT(15)

#define EPT_CAP_EXECUTE_ONLY		BIT(0)
#define EPT_CAP_2M			BIT(16)
#define EPT_CAP_1G			BIT(17)
#define EPT_CAP_AD			BIT(21)

/* L2's registers, in the order in which enter.S has them. */
struct guest_registers {
	u64 rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};

/* What L1 wants; whatever the processor has set that cannot be off comes on top. */
struct vmx_controls {
	u32 pin, cpu, cpu2, entry, exit;
};
extern const struct vmx_controls usual_controls;

void vmx_on(void);
/* A VMCS that is all zeros, in place of the current one, which is given up. */
void vmcs_fresh(void);
/* A VMCS for 64-bit supervisor code; RIP, RSP, CR3 and the EPT pointer are for the caller. */
void vmcs_prepare(void);
void vmcs_user(bool user);
void vmcs_controls(const struct vmx_controls *wanted);
bool controls_offered(u32 field, u64 wanted);

u64 vmread(u32 field);
bool vmread_if_there(u32 field, u64 *value);
void vmwrite(u32 field, u64 value);
void invept_context(u64 eptp);
/* All of the VMCS that this processor has. */
void say_vmcs(const char *at);

/* VMLAUNCH the first time, VMRESUME later; back after the exit.  A refused entry ends the run. */
void vmx_enter(struct guest_registers *registers);

u64 ept_vpid_cap(void);
u32 maxphyaddr(void);

#endif
