/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 of states.c: what a guest's kernel does to its own registers.  As in l2.S each stub ends with
 * VMCALL; the argument that OUT takes to the port in DX is in R8 (in 32-bit mode in EBX).
 */
	.section .rodata
	.code64
	.global	states_code, s_out, s_write_msr, s_read_msr, s_write_dr7, s_read_dr7, s_read_long, s_all
	.global	states_code_end
states_code:
s_out:
	mov	%r8d, %eax
	out	%eax, (%dx)
	vmcall
s_write_msr:
	wrmsr
	vmcall
s_read_msr:
	rdmsr
	vmcall
s_write_dr7:
	mov	%rax, %dr7
	vmcall
s_read_dr7:
	mov	%dr7, %rax
	vmcall

s_read_long:
	mov	(%rdi), %eax
	vmcall

/* EFER.NXE (0xc0000080) on, PAT (0x277) from R10, DR7 from R11; then as s_out, the port in R9. */
s_all:
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x800, %eax
	wrmsr
	mov	$0x277, %ecx
	mov	%r10, %rax
	mov	%r10, %rdx
	shr	$32, %rdx
	wrmsr
	mov	%r11, %rax
	mov	%rax, %dr7
	mov	%r9d, %edx
	jmp	s_out
states_code_end:

/* With PAE paging. */
	.code32
	.global	pae_code, p_read, p_write, p_load_cr3, pae_code_end
pae_code:
p_read:
	mov	(%edi), %eax
	vmcall
p_write:
	mov	%eax, (%edi)
	vmcall
p_load_cr3:
	mov	%eax, %cr3
	mov	%ebx, %eax
	out	%eax, (%dx)
	vmcall
pae_code_end:
