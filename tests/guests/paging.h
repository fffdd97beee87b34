/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef PAGING_H
#define PAGING_H

#include "types.h"
#include "scenario.h"

#define GUEST_TOP_LEVEL		4

/* L2's own four-level page tables.  Their home pool starts with the PML4. */
void guest_paging_init(const struct scenario_file *file);
u64 guest_cr3(void);
void guest_map(const struct scenario_map *map);

/*
 * Walks as the processor would: for each level, where the entry lies for L2 and where for L1 (0 and
 * NULL under the last one).  The L2 GPA is that of `linear`; 0 if an entry is not present.
 */
struct guest_walk {
	u64 entry_gpa[GUEST_TOP_LEVEL + 1];
	u64 *entry[GUEST_TOP_LEVEL + 1];
	u64 gpa;
};
void guest_walk(u64 linear, struct guest_walk *walk);

#endif
