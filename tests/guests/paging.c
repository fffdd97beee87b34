/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2's page tables.  L1 writes them, so it must know where each lies in its own memory even if
 * EPT12 hides the page from L2: tables come from pools whose two addresses are given.
 */
#include "paging.h"
#include "ept.h"
#include "memory.h"

#define PRESENT			BIT(0)
#define WRITABLE		BIT(1)
#define USER			BIT(2)
#define ACCESSED		BIT(5)
#define LARGE			BIT(7)
#define TABLE			(PRESENT | WRITABLE | USER | ACCESSED)
#define ADDRESS			0x000ffffffffff000ull
#define HOME_FIRST_TABLE	2		/* after code and stack */

struct pool {
	u64 gpa, l1gpa;
	u64 pages;		/* how many there are, */
	u64 used;		/* and how many are tables by now */
	struct pool *next;
};

static struct pool home;

void guest_paging_init(const struct scenario_file *file)
{
	home.gpa = home.l1gpa = file->home + HOME_FIRST_TABLE * PAGE_SIZE;
	home.pages = (file->home_end - home.gpa) / PAGE_SIZE;
	home.used = 1;
	memset((void *)home.l1gpa, 0, PAGE_SIZE);
}

u64 guest_cr3(void)
{
	return home.gpa;
}

static struct pool *find_pool(u64 gpa, u64 l1gpa)
{
	struct pool *pool = &home;

	if (!gpa)
		return &home;
	for (; pool->next; pool = pool->next)
		if (pool->next->gpa == gpa)
			return pool->next;
	pool->next = new_page();
	pool->next->gpa = gpa;
	pool->next->l1gpa = l1gpa;
	pool->next->pages = GUEST_TOP_LEVEL - 1;
	return pool->next;
}

static u64 new_table(struct pool *pool)
{
	u64 offset = pool->used++ * PAGE_SIZE;

	if (pool->used > pool->pages)
		fail("too few pages for L2's tables", pool->gpa);
	memset((void *)(pool->l1gpa + offset), 0, PAGE_SIZE);
	return pool->gpa + offset;
}

static u64 *table_at(u64 gpa)
{
	for (struct pool *p = &home; p; p = p->next)
		if (gpa >= p->gpa && gpa - p->gpa < p->used * PAGE_SIZE)
			return (u64 *)(gpa - p->gpa + p->l1gpa);
	return NULL;
}

static u32 index_of(u64 linear, u32 level)
{
	return linear / level_size(level) % 512;
}

static void map_one(u64 linear, u64 leaf, u32 level, struct pool *pool)
{
	u64 *table = table_at(home.gpa);

	for (u32 l = GUEST_TOP_LEVEL; l > level; l--) {
		u64 *entry = &table[index_of(linear, l)];

		if (!(*entry & PRESENT))
			*entry = new_table(pool) | TABLE;
		table = table_at(*entry & ADDRESS);
		if (!table || (l < GUEST_TOP_LEVEL && *entry & LARGE))
			fail("a mapping lies under a large page", linear);
	}
	table[index_of(linear, level)] = leaf;
}

void guest_map(const struct scenario_map *map)
{
	struct pool *pool = find_pool(map->tables_gpa, map->tables_l1gpa);
	u64 bits = map->bits | (map->level > 1 ? LARGE : 0);

	for (u32 i = 0; i < map->count; i++) {
		u64 offset = i * level_size(map->level);

		map_one(map->linear + offset, (map->gpa + offset) | bits, map->level, pool);
	}
}

void guest_walk(u64 linear, struct guest_walk *walk)
{
	u64 table = home.gpa;

	memset(walk, 0, sizeof(*walk));
	for (u32 level = GUEST_TOP_LEVEL; level; level--) {
		u32 index = index_of(linear, level);
		u64 *entries = table_at(table), entry;

		if (!entries)
			return;
		walk->entry_gpa[level] = table + index * sizeof(u64);
		walk->entry[level] = &entries[index];
		entry = entries[index];
		if (!(entry & PRESENT))
			return;
		if (level == 1 || (level < GUEST_TOP_LEVEL && entry & LARGE)) {
			u64 offset = level_size(level) - 1;

			walk->gpa = (entry & ADDRESS & ~offset) | (linear & offset);
			return;
		}
		table = entry & ADDRESS;
	}
}
