/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VMXON, one VMCS, and the way in and out of L2. */
#include "vmx.h"
#include "console.h"
#include "cpu.h"
#include "memory.h"

#define CPUID_VMX		BIT(5)		/* leaf 1, ecx */
#define BASIC_TRUE_CONTROLS	BIT(55)

#define CODE_SELECTOR		0x08
#define DATA_SELECTOR		0x10
#define TSS_SELECTOR		0x18
#define RIGHTS_CODE		0xa09b
#define RIGHTS_DATA		0xc093
#define RIGHTS_BUSY_TSS		0x008b
#define RIGHTS_DPL_3		0x0060
#define RIGHTS_UNUSABLE		0x10000
#define SEGMENT_STEP		2		/* from one segment's field to the next one's */
#define RPL_3			3

#define RFLAGS_FIXED		BIT(1)
#define RFLAGS_IOPL_3		(3ull << 12)	/* user code may use INS and OUTS */
#define DR7_FIXED		0x400
#define INVEPT_SINGLE_CONTEXT	1

extern char gdt[], tss[], idt[];
extern char vmx_exit[], exit_stack_end[];
bool enter_l2(struct guest_registers *registers, bool launched);

const struct vmx_controls usual_controls = {
	.cpu = CPU_HLT_EXITING | CPU_USE_MSR_BITMAPS | CPU_SECONDARY,
	.cpu2 = CPU2_EPT,
	.entry = ENTRY_GUEST_64 | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER,
	.exit = EXIT_HOST_64 | EXIT_LOAD_PAT | EXIT_LOAD_EFER,
};

static bool launched;
static u64 current;

u64 ept_vpid_cap(void)
{
	return rdmsr(MSR_VMX_EPT_VPID_CAP);
}

u32 maxphyaddr(void)
{
	return cpuid(0x80000008).eax & 0xff;
}

static void *vmx_region(void)
{
	u32 *region = new_page();

	*region = (u32)rdmsr(MSR_VMX_BASIC) & ~(u32)BIT(31);
	return region;
}

/* The result of a VMX instruction: CF or ZF set is a failure. */
#define VMX(instruction, operands...)						\
({										\
	bool failed;								\
										\
	asm volatile(instruction "; setna %0" : "=qm"(failed) : operands : "cc", "memory");	\
	failed;									\
})

static void allow_vmxon(void)
{
	u64 control = rdmsr(MSR_FEATURE_CONTROL);

	if (!(control & FEATURE_CONTROL_LOCKED))
		wrmsr(MSR_FEATURE_CONTROL,
		      control | FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON);
	else if (!(control & FEATURE_CONTROL_VMXON))
		fail("VMX is locked off", control);
}

void vmx_on(void)
{
	u64 region;

	if (!(cpuid(1).ecx & CPUID_VMX))
		fail("this processor has no VMX", cpuid(1).ecx);
	allow_vmxon();
	write_cr0((read_cr0() | rdmsr(MSR_VMX_CR0_FIXED0)) & rdmsr(MSR_VMX_CR0_FIXED1));
	write_cr4((read_cr4() | rdmsr(MSR_VMX_CR4_FIXED0)) & rdmsr(MSR_VMX_CR4_FIXED1));
	region = (u64)vmx_region();
	if (VMX("vmxon %1", "m"(region)))
		fail("VMXON", region);
	vmcs_fresh();
}

void vmcs_fresh(void)
{
	if (current && VMX("vmclear %1", "m"(current)))
		fail("VMCLEAR", current);
	current = (u64)vmx_region();
	if (VMX("vmclear %1", "m"(current)) || VMX("vmptrld %1", "m"(current)))
		fail("VMPTRLD", current);
	launched = false;
}

void vmwrite(u32 field, u64 value)
{
	if (VMX("vmwrite %1, %2", "r"(value), "r"((u64)field)))
		fail("VMWRITE", field);
}

bool vmread_if_there(u32 field, u64 *value)
{
	bool failed;

	asm volatile("vmread %2, %1; setna %0" : "=qm"(failed), "=r"(*value)
		     : "r"((u64)field) : "cc", "memory");
	return !failed;
}

u64 vmread(u32 field)
{
	u64 value;

	if (!vmread_if_there(field, &value))
		fail("VMREAD", field);
	return value;
}

void invept_context(u64 eptp)
{
	struct {
		u64 eptp, reserved;
	} descriptor = { eptp, 0 };

	if (VMX("invept %1, %2", "m"(descriptor), "r"((u64)INVEPT_SINGLE_CONTEXT)))
		fail("INVEPT", eptp);
}

/* The capabilities of a field with controls: what must be on, and above, what may be. */
static u64 capability_of(u32 field)
{
	bool exact = rdmsr(MSR_VMX_BASIC) & BASIC_TRUE_CONTROLS;

	switch (field) {
	case PIN_CONTROLS:
		return rdmsr(exact ? MSR_VMX_TRUE_PINBASED : MSR_VMX_PINBASED);
	case CPU_CONTROLS:
		return rdmsr(exact ? MSR_VMX_TRUE_PROCBASED : MSR_VMX_PROCBASED);
	case EXIT_CONTROLS:
		return rdmsr(exact ? MSR_VMX_TRUE_EXIT : MSR_VMX_EXIT);
	case ENTRY_CONTROLS:
		return rdmsr(exact ? MSR_VMX_TRUE_ENTRY : MSR_VMX_ENTRY);
	default:
		return rdmsr(MSR_VMX_PROCBASED2);
	}
}

bool controls_offered(u32 field, u64 wanted)
{
	return !(wanted & ~(capability_of(field) >> 32));
}

static void write_controls(u32 field, u64 wanted)
{
	if (!controls_offered(field, wanted))
		fail("the processor lacks VMX controls", wanted & ~(capability_of(field) >> 32));
	vmwrite(field, wanted | (u32)capability_of(field));
}

void vmcs_controls(const struct vmx_controls *wanted)
{
	write_controls(PIN_CONTROLS, wanted->pin);
	write_controls(CPU_CONTROLS, wanted->cpu);
	write_controls(CPU_CONTROLS_2, wanted->cpu2);
	write_controls(EXIT_CONTROLS, wanted->exit);
	write_controls(ENTRY_CONTROLS, wanted->entry);
}

static void prepare_controls(void)
{
	vmcs_controls(&usual_controls);
	vmwrite(MSR_BITMAP, (u64)new_page());
	vmwrite(EXCEPTION_BITMAP, 0xffffffff);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
}

static void prepare_host(void)
{
	vmwrite(HOST_CR0, read_cr0());
	vmwrite(HOST_CR3, read_cr3());
	vmwrite(HOST_CR4, read_cr4());
	vmwrite(HOST_CS_SELECTOR, CODE_SELECTOR);
	for (u32 field = HOST_ES_SELECTOR; field <= HOST_GS_SELECTOR; field += SEGMENT_STEP)
		if (field != HOST_CS_SELECTOR)
			vmwrite(field, DATA_SELECTOR);
	vmwrite(HOST_TR_SELECTOR, TSS_SELECTOR);
	vmwrite(HOST_TR_BASE, (u64)tss);
	vmwrite(HOST_GDTR_BASE, (u64)gdt);
	vmwrite(HOST_IDTR_BASE, (u64)idt);
	vmwrite(HOST_PAT, rdmsr(MSR_PAT));
	vmwrite(HOST_EFER, rdmsr(MSR_EFER));
	vmwrite(HOST_RSP, (u64)exit_stack_end);
	vmwrite(HOST_RIP, (u64)vmx_exit);
}

/* ES, SS, DS, FS, GS, LDTR unusable; CS and TR are what 64-bit mode cannot do without. */
static void prepare_guest(void)
{
	for (u32 i = 0; i < 7; i++)
		vmwrite(GUEST_ES_RIGHTS + i * SEGMENT_STEP, RIGHTS_UNUSABLE);
	vmwrite(GUEST_CS_LIMIT, 0xffffffff);
	vmwrite(GUEST_SS_LIMIT, 0xffffffff);
	vmwrite(GUEST_TR_LIMIT, 0x67);
	vmwrite(GUEST_TR_RIGHTS, RIGHTS_BUSY_TSS);
	vmwrite(GUEST_TR_SELECTOR, TSS_SELECTOR);
	vmcs_user(false);
	vmwrite(GUEST_CR0, read_cr0() | CR0_WP);
	vmwrite(GUEST_CR4, read_cr4());
	vmwrite(GUEST_PAT, rdmsr(MSR_PAT));
	vmwrite(GUEST_EFER, EFER_LME | EFER_LMA | EFER_NXE);
	vmwrite(GUEST_DR7, DR7_FIXED);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IOPL_3);
}

void vmcs_user(bool user)
{
	u32 rights = user ? RIGHTS_DPL_3 : 0, rpl = user ? RPL_3 : 0;

	vmwrite(GUEST_CS_SELECTOR, CODE_SELECTOR | rpl);
	vmwrite(GUEST_CS_RIGHTS, RIGHTS_CODE | rights);
	vmwrite(GUEST_SS_SELECTOR, DATA_SELECTOR | rpl);
	vmwrite(GUEST_SS_RIGHTS, RIGHTS_DATA | rights);
}

void vmcs_prepare(void)
{
	prepare_controls();
	prepare_host();
	prepare_guest();
}

void vmx_enter(struct guest_registers *registers)
{
	if (!enter_l2(registers, launched))
		fail("VM entry refused, VM-instruction error", vmread(VM_INSTRUCTION_ERROR));
	if (vmread(EXIT_REASON) & REASON_ENTRY_FAILURE)
		fail("VM entry failed, exit reason", vmread(EXIT_REASON));
	launched = true;
}

void say_vmcs(const char *at)
{
	const char *comma = "";

	say("{'vmcs': {");
	for (u32 kind = 0; kind < 16; kind++)
		for (u32 index = 0; index < 64; index++) {
			u32 field = (kind >> 2) << 13 | (kind & 3) << 10 | index << 1;
			u64 value;

			if (!vmread_if_there(field, &value))
				continue;
			say("%s'%x': '%x'", comma, (u64)field, value);
			comma = ", ";
		}
	say("}, 'at': '%s'}\n", at);
}
