/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages that L1 maps for L2. */
#include "page.h"
#include "memory.h"

#define SIGNATURE_MARK		(0x4e455054ull << 32)	/* "NEPT" */
#define PAGE_CODE_IMMEDIATE	(PAGE_CODE_OFFSET + 1)

extern const char l2_page_code[], l2_page_code_end[], l2_cross_code[], l2_cross_code_end[];

u64 page_signature(u64 l1gpa)
{
	return SIGNATURE_MARK | l1gpa / PAGE_SIZE;
}

void page_prepare(u64 l1gpa)
{
	char *page = (char *)l1gpa;
	u32 frame = l1gpa / PAGE_SIZE;
	u64 cross = PAGE_SIZE - (l2_cross_code_end - l2_cross_code);

	memset(page, 0, PAGE_SIZE);
	memcpy(page + PAGE_CODE_OFFSET, l2_page_code, l2_page_code_end - l2_page_code);
	memcpy(page + PAGE_CODE_IMMEDIATE, &frame, sizeof(frame));
	memcpy(page + cross, l2_cross_code, l2_cross_code_end - l2_cross_code);
}
