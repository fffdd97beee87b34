/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 where an access needs more than one instruction, or one of its own: copied behind l2_code
 * (tests/guests/l2.S), entered like it.  The address is in RDI, a value to write in RBX.
 */
	.section .rodata
	.code64
	.global	f_code, f_code_end
	.global	f_iret, f_movs
	.global	f_switch_read, f_switch_write, f_switch_fetch, f_shadow_write, f_shadow_read
f_code:
f_switch_read:				/* RAX 0, RCX the index: EPTP switching */
	vmfunc
	mov	(%rdi), %rax
	vmcall
f_switch_write:
	vmfunc
	mov	%rbx, (%rdi)
	vmcall
f_switch_fetch:
	vmfunc
	jmp	*%rdi
f_shadow_write:
	wrssq	%rbx, (%rdi)
	vmcall
f_shadow_read:				/* SSP is the address: the entry there is read */
	mov	$1, %eax
	incsspq	%rax
	vmcall
f_iret:					/* Bochs takes RFLAGS, at offset 16, from the stack first */
	lea	-16(%rdi), %rsp
	iretq
f_movs:					/* RSI is a page of MMIO: an emulator makes the write */
	movsb
	vmcall
f_code_end:
