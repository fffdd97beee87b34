/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a case of features.c turns on: the last word of its struct scenario_case, and what is
 * recorded of it besides the exit.  cases.py has the same numbers.
 */
#ifndef FEATURES_H
#define FEATURES_H

#include "cases.h"

#define FEATURE_PML		0x001	/* page-modification logging */
#define FEATURE_PML_FULL	0x002	/* its index is out of the log */
#define FEATURE_VE		0x004	/* EPT-violation #VE */
#define FEATURE_VE_BUSY		0x008	/* the word at offset 4 of its area is not 0 */
#define FEATURE_MBEC		0x010	/* mode-based execute control */
#define FEATURE_SPP		0x020	/* sub-page write permissions */
#define FEATURE_SSS		0x040	/* EPTP bit 7, and shadow stacks on in L2 */
#define FEATURE_SWITCH		0x080	/* VMFUNC to the second EPTP, right before the access */
#define FEATURE_LA57		0x100	/* L2 has five levels of paging */
#define FEATURE_SHADOW_STACK	0x200	/* WRSSQ for the write, INCSSPQ for the read */
#define FEATURE_IRET		0x400	/* IRETQ for the read */
#define FEATURE_NMI_BLOCKED	0x800	/* before it, NMIs or virtual NMIs */
#define FEATURE_NMI_EXITING	0x1000
#define FEATURE_VIRTUAL_NMIS	0x2000
#define FEATURE_PML_ONE_LEFT	0x4000	/* the index is that of the last entry: then it is full */
#define FEATURE_MOVS		0x8000	/* MOVSB for the write, from the page at MMIO_LINEAR */

#define MMIO_LINEAR		0x500000010000ull

/* Patches of these cases only: an entry of the SPP table for the data's L2 GPA. */
#define PATCH_SPPT		4
#define SPP_LEVELS		4
/* The PML4E for the data's L2 GPA in the EPT that VMFUNC switches to. */
#define PATCH_OTHER		5

#define PML_SHOWN		4
#define VE_WORDS		5

struct feature_record {
	struct log_record usual;
	u64 path[4];		/* EPT12 on the path of the data's L2 GPA, after the access */
	u64 written;		/* L1 address of the page with what was written; or ~0 */
	u64 pml_index;
	u64 pml[PML_SHOWN];	/* from the log's end downwards */
	u64 ve[VE_WORDS];	/* the information area */
};

#endif
