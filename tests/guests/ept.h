/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef EPT_H
#define EPT_H

#include "types.h"
#include "scenario.h"

#define EPT_TOP_LEVEL		4
#define EPT_RIGHTS		7ull
#define EPT_LARGE		BIT(7)

/* Makes an EPT12 with nothing in it; all functions work on the one made or selected last. */
void ept_init(void);
/* Makes this the EPT12 that is worked on; returns which one it was. */
u64 *ept_select(u64 *root);
/* Its EPT pointer, with or without accessed and dirty flags. */
u64 ept_pointer(bool ad);
/* `empty`: only the tables above, so that those of other regions lie where they always do. */
void ept_add(const struct scenario_region *region, bool empty);
/* The entry of this level, or NULL where the levels above do not lead to one. */
u64 *ept_entry(u64 gpa, u32 level);
/* The entries that a walk reads, top level first, down to the one at which it ends. */
u32 ept_path(u64 gpa, u64 *entries);
/* Says every present entry. */
void ept_say(const char *tag);
u64 beyond_maxphyaddr(void);

static inline u64 level_size(u32 level)
{
	return PAGE_SIZE << 9 * (level - 1);
}

#endif
