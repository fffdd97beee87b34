/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2: one stub for each operation of a case.  L1 copies them to the first page of L2's home, puts
 * the address into RDI and RSI, and enters right at the stub; VMCALL is the way back, from user
 * mode too.  Every stub does exactly one data access.  A fetch has no stub: RIP is the address.
 */
#include "ports.h"

	.section .rodata
	.code64
	.global	l2_code, l2_read, l2_write, l2_rmw, l2_outs, l2_ins, l2_park, l2_code_end
	.global	l2_page_code, l2_page_code_end, l2_cross_code, l2_cross_code_end
l2_code:
l2_read:
	mov	(%rdi), %rax
	vmcall
l2_write:
	mov	%rax, (%rdi)
	vmcall
l2_rmw:
	lock xadd %rax, (%rdi)
	vmcall
l2_outs:
	outsb
	vmcall
l2_ins:
	insb
	vmcall
l2_park:
	mov	(%rdi), %rax
	out	%al, (%dx)
	vmcall
l2_code_end:

/* At offset 8 of every page with a signature; L1 puts the low half of the signature in. */
l2_page_code:
	mov	$0, %eax
	vmcall
l2_page_code_end:

/* The last two bytes of such a page: MOV of the next page's signature, as an immediate, to RAX. */
l2_cross_code:
	.byte	0x48, 0xb8
l2_cross_code_end:
