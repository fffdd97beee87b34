/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L1: a hypervisor whose only guest makes EPT faults, one after the other, and which tells of each
 * what the processor told it.  There are two of them: l1.elf runs the cases of a scenario, states.elf
 * (states.h) does what hypervisors do, one after the other.
 *
 * It boots by multiboot in two places.  Booted by GRUB on a bare machine it is the only hypervisor,
 * and what it records is what *the processor* reports.  Started by vmm.c under Linux' KVM the same
 * image is a nested hypervisor, and what it records is what *KVM* injects.  Holding the two against
 * each other is what it is for.
 *
 *   boot.S              32-bit entry, 64-bit mode, fault reporting
 *   memory.c console.c  boot loader's information, pages; lines of JSON
 *   vmx.c enter.S       VMXON, one VMCS, into L2 and back
 *   ept.c               EPT12
 *   paging.c            L2's own page tables
 *   l2.S                L2: one instruction for each kind of access
 *   page.c              pages that L2 is given
 *   cases.c             the scenario: patch, enter, record, undo
 *   scenario.h          the file that scenarios.py writes: what EPT12 looks like, and all the cases
 *
 * L1's memory: the image at 1 MiB and the module; the scenario's arena, with L2's home and all
 * pages that EPT12 maps; L1's tables under it, from its start downwards; behind it the log (struct
 * log_record in cases.h).  So nearly all addresses are the same in both places.
 *
 * Words of the command line: vmm=1 (the ports of ports.h are there), console=line|rep|poll,
 * quiet=1 (do not say each case), first=N count=N (only these cases), parkcase=NAME.
 */
#include "console.h"
#include "cpu.h"
#include "l1.h"
#include "memory.h"
#include "ports.h"
#include "vmx.h"

static bool vmm;

void finish(u32 status)
{
	if (vmm)
		outl(PORT_DONE, status);
	say("{'done': %u}\n", (u64)status);
	asm volatile("xchg %bx, %bx");		/* Bochs stops here */
	for (;;)
		asm volatile("hlt");
}

void fail(const char *why, u64 value)
{
	say("\n{'error': '%s', 'value': '%x'}\n", why, value);
	finish(1);
}

/* From boot.S: a fault in L1 is a bug in L1. */
void l1_fault(u64 vector, u64 error, u64 rip)
{
	say("\n{'error': 'fault in L1', 'vector': %u, 'error_code': '%x', 'rip': '%x', 'cr2': '%x'}\n",
	    vector, error, rip, read_cr2());
	finish(2);
}

static enum console_mode wanted_console(void)
{
	u32 length;
	const char *wanted = word_value("console=", &length);

	if (!vmm || !wanted)
		return CONSOLE_POLL;
	if (same_text(wanted, "line", 4))
		return CONSOLE_LINE;
	return same_text(wanted, "rep", 3) ? CONSOLE_REP : CONSOLE_POLL;
}

static void say_start(void)
{
	say("{'l1': 'start', 'where': '%s', 'vmx_basic': '%x', 'ept_vpid_cap': '%x', 'maxphyaddr': %u}\n",
	    vmm ? "kvm" : "bare", rdmsr(MSR_VMX_BASIC), ept_vpid_cap(), (u64)maxphyaddr());
}

void l1_main(const struct multiboot *info)
{
	memory_init(info);
	vmm = word_on_command_line("vmm=1");
	console_init(wanted_console());
	say_start();
	l1_run(vmm);
	finish(0);
}
