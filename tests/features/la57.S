/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * void l1_la57(void): L1 itself goes on with five levels of paging.  CR4.LA57 cannot change in
 * IA-32e mode, so it is left for 32-bit code and entered again.  Not after VMXON.
 */
#define CODE64			0x08
#define CODE32			0x28
#define CR0_PG			0x80000000
#define CR4_LA57		0x1000
#define TABLE			0x27

	.text
	.code64
	.global	l1_la57
l1_la57:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, stack_before
	mov	%cr3, %rax
	or	$TABLE, %rax
	mov	%rax, pml5
	lgdt	gdt_with_32
	push	$CODE32
	push	$1f
	lretq
	.code32
1:	mov	%cr0, %eax
	and	$~CR0_PG, %eax
	mov	%eax, %cr0
	mov	%cr4, %eax
	or	$CR4_LA57, %eax
	mov	%eax, %cr4
	mov	$pml5, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$CR0_PG, %eax
	mov	%eax, %cr0
	ljmp	$CODE64, $2f
	.code64
2:	mov	stack_before, %rsp
	lgdt	gdt_of_boot
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	.data
	.align	16
gdt_entries:				/* as in boot.S; behind them, 32-bit code */
	.quad	0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
	.quad	0, 0
	.quad	0x00cf9b000000ffff
gdt_entries_end:
gdt_with_32:
	.word	gdt_entries_end - gdt_entries - 1
	.quad	gdt_entries
gdt_of_boot:
	.word	5 * 8 - 1
	.quad	gdt

	.bss
	.align	4096
pml5:
	.skip	4096
stack_before:
	.skip	8
