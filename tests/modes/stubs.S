/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 in each size of code: one access at EDI or RDI, four bytes wide; VMCALL is the way back.  The
 * stubs of one size stand in the order of enum modes_op, STUB bytes apart; a fetch has none.
 */
	.set	STUB, 16

	.macro	stubs width, pointer
	.code\width
	mov	(%\pointer), %eax
	vmcall
	.balign	STUB
	mov	%eax, (%\pointer)
	vmcall
	.balign	STUB
	xchg	%eax, (%\pointer)
	vmcall
	.balign	STUB
	vmcall
	.balign	STUB
	mov	%eax, %es
	vmcall
	.balign	STUB
	incsspd	%eax
	vmcall
	.balign	STUB
	wrssd	%eax, (%\pointer)
	vmcall
	.balign	STUB
	wrussd	%eax, (%\pointer)
	vmcall
	.balign	STUB
	.endm

	.section .rodata
	.global	modes_code, modes_code_end, modes_page, modes_page_end
	.balign	STUB
modes_code:
	stubs	16, edi
	stubs	32, edi
	stubs	64, rdi
modes_code_end:

/* A page of data, behind its signature, which is put into both immediates. */
	.set	DESCRIPTOR, 0x00cff2000000ffff	/* data, writable, DPL 3, not accessed */
modes_page:
	.long	0, 0
	.code64
	mov	$0, %eax			/* at 8: for 32- and 64-bit code */
	vmcall
	.balign	16
	.code16
	movl	$0, %eax			/* at 16: the immediate is at 18 */
	vmcall
	.balign	16
	.quad	DESCRIPTOR			/* at 32 */
modes_page_end:
