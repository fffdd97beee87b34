/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bool enter_l2(struct guest_registers *registers, bool launched)
 *
 * HOST_RSP never changes: it is a small stack of its own, and the C stack is found again in
 * `caller_stack`.  So an entry costs no VMWRITE, each of which is an exit to L0 when nested.
 */
	.macro	registers instruction, base
	.irp	pair, "0,rax", "8,rbx", "16,rcx", "24,rdx", "32,rsi", "48,rbp", "56,r8", "64,r9", \
		   "72,r10", "80,r11", "88,r12", "96,r13", "104,r14", "112,r15"
	\instruction \pair, \base
	.endr
	.endm
	.macro	load offset, register, base
	mov	\offset(%\base), %\register
	.endm
	.macro	save offset, register, base
	mov	%\register, \offset(%\base)
	.endm
	.set	RDI, 40

	.text
	.global	enter_l2, vmx_exit
enter_l2:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rdi, guest_registers
	mov	%rsp, caller_stack
	test	%sil, %sil
	registers load, rdi
	mov	RDI(%rdi), %rdi
	jnz	1f
	vmlaunch
	jmp	refused
1:	vmresume
refused:
	xor	%eax, %eax
	jmp	out

vmx_exit:
	push	%rdi
	mov	guest_registers, %rdi
	registers save, rdi
	pop	RDI(%rdi)
	mov	$1, %eax
out:
	mov	caller_stack, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	.bss
	.align	16
guest_registers:
	.skip	8
caller_stack:
	.skip	8
	.skip	256
	.global	exit_stack_end
exit_stack_end:
