// SPDX-License-Identifier: GPL-2.0-or-later
/* A program that parks, as tests/guests/vmm.c does: Bochs stops in this very process. */
	.globl	_start
_start:
	xchg	%bx, %bx
	mov	$60, %eax		/* exit */
	xor	%edi, %edi
	syscall
	.section .note.GNU-stack, "", @progbits
