/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the multiboot loader's 32-bit protected mode to C in 64-bit mode: 0..4 GiB mapped where it
 * is, in 2-MiB pages; interrupts stay off for ever; an IDT whose only purpose is to tell of a bug.
 */
#define MULTIBOOT_MAGIC		0x1badb002
#define MULTIBOOT_FLAGS		0x00000003	/* modules on page boundaries; memory map */
#define LARGE_PAGE		0x83		/* present, writable, 2 MiB */
#define TABLE			0x03
#define CR0_PG			0x80000000
#define CR0_CACHE_OFF		0x60000000	/* CD and NW */
#define CR4_PAE			0x20
#define MSR_EFER		0xc0000080
#define EFER_LME		0x100
#define CODE64			0x08
#define DATA			0x10
#define TSS			0x18

	.section .multiboot, "a"
	.align	4
	.long	MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

	.text
	.code32
	.global	start
start:
	cli
	cld
	mov	%ebx, %ebp			/* the multiboot information */
	mov	$bss_start, %edi
	mov	$bss_end, %ecx
	sub	%edi, %ecx
	xor	%eax, %eax
	rep stosb

	movl	$pdpt + TABLE, pml4
	mov	$4, %ecx			/* four directories of 1 GiB each */
	mov	$directories + TABLE, %eax
	mov	$pdpt, %edi
1:	mov	%eax, (%edi)
	add	$0x1000, %eax
	add	$8, %edi
	loop	1b
	mov	$4 * 512, %ecx
	mov	$LARGE_PAGE, %eax
	mov	$directories, %edi
1:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	1b

	mov	%cr4, %eax
	or	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$EFER_LME, %eax
	wrmsr
	mov	%cr0, %eax
	and	$~CR0_CACHE_OFF, %eax		/* some firmware leaves it off */
	or	$CR0_PG, %eax
	mov	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$CODE64, $start64

	.code64
start64:
	mov	$DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	mov	$stack_end, %rsp
	mov	$tss, %eax			/* the image lies under 16 MiB */
	mov	%ax, gdt + TSS + 2
	shr	$16, %eax
	mov	%al, gdt + TSS + 4
	mov	$TSS, %eax
	ltr	%ax
	call	idt_init
	lidt	idt_pointer
	mov	%ebp, %edi
	call	l1_main
	ud2					/* never returns */

/* 32 gates, each to its vector_N below, which are 16 bytes apart. */
idt_init:
	mov	$vectors, %eax
	mov	$idt, %edi
	mov	$32, %ecx
1:	mov	%ax, (%rdi)
	movw	$CODE64, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	mov	%eax, %edx
	shr	$16, %edx
	mov	%dx, 6(%rdi)
	add	$16, %eax
	add	$16, %edi
	loop	1b
	ret

	.align	16
vectors:
	vector = 0
	.rept	32
	.align	16
	.if	!(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	push	$0				/* vectors without an error code */
	.endif
	push	$vector
	jmp	fault
	vector = vector + 1
	.endr

fault:
	pop	%rdi				/* vector */
	pop	%rsi				/* error code */
	mov	(%rsp), %rdx			/* RIP */
	and	$-16, %rsp
	call	l1_fault
	ud2

	.data
	.align	16
	.global	gdt, tss, idt
gdt:
	.quad	0
	.quad	0x00af9b000000ffff		/* code, 64-bit */
	.quad	0x00cf93000000ffff		/* data */
	.quad	0x0000890000000067, 0		/* TSS; its base is filled in above */
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt, 0
idt_pointer:
	.word	32 * 16 - 1
	.quad	idt

	.bss
	.align	4096
pml4:	.skip	4096
pdpt:	.skip	4096
directories:
	.skip	4 * 4096
stack:	.skip	16384
stack_end:
tss:	.skip	128
idt:	.skip	32 * 16
