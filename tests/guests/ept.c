/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EPT12: built from the regions of the scenario, patched for a case, read back for the log. */
#include "ept.h"
#include "console.h"
#include "memory.h"
#include "vmx.h"

#define EPTP_WRITE_BACK		6
#define EPTP_FOUR_LEVELS	(3 << 3)
#define EPTP_AD			BIT(6)
#define XWR_WRITE_ONLY		2
#define XWR_WRITE_EXECUTE	6

static u64 *root;
static u32 width;		/* MAXPHYADDR */
static u64 capabilities;

void ept_init(void)
{
	width = maxphyaddr();
	capabilities = ept_vpid_cap();
	root = new_page();
}

u64 *ept_select(u64 *other)
{
	u64 *before = root;

	root = other;
	return before;
}

u64 beyond_maxphyaddr(void)
{
	return BIT(width);
}

u64 ept_pointer(bool ad)
{
	return (u64)root | EPTP_WRITE_BACK | EPTP_FOUR_LEVELS | (ad ? EPTP_AD : 0);
}

static u64 *slot(u64 *table, u64 gpa, u32 level)
{
	return &table[gpa / level_size(level) % 512];
}

static bool is_present(u64 entry)
{
	return entry & EPT_RIGHTS;
}

static bool is_leaf(u64 entry, u32 level)
{
	return level == 1 || (level < EPT_TOP_LEVEL && entry & EPT_LARGE);
}

static u64 address_of(u64 entry)
{
	return entry & (BIT(width) - 1) & PAGE_MASK;
}

static u64 reserved_bits(u64 entry, u32 level)
{
	u64 reserved = (BIT(52) - 1) & ~(BIT(width) - 1);

	if (level == 1)
		return reserved;
	if (is_leaf(entry, level))
		return reserved | ((level_size(level) - 1) & PAGE_MASK);
	return reserved | (level == EPT_TOP_LEVEL ? 0xf8 : 0x78);
}

/* SDM, "EPT misconfigurations"; only to know where the processor ends its walk. */
static bool is_misconfigured(u64 entry, u32 level)
{
	u64 xwr = entry & EPT_RIGHTS, type = entry >> 3 & 7;

	if (xwr == XWR_WRITE_ONLY || xwr == XWR_WRITE_EXECUTE)
		return true;
	if (xwr == 4 && !(capabilities & EPT_CAP_EXECUTE_ONLY))
		return true;
	if (level == 3 && entry & EPT_LARGE && !(capabilities & EPT_CAP_1G))
		return true;
	if (entry & reserved_bits(entry, level))
		return true;
	return is_leaf(entry, level) && (type == 2 || type == 3 || type == 7);
}

static bool leads_on(u64 entry, u32 level)
{
	return is_present(entry) && !is_leaf(entry, level) && !is_misconfigured(entry, level)
		&& is_ram(address_of(entry), PAGE_SIZE);
}

u64 *ept_entry(u64 gpa, u32 level)
{
	u64 *table = root;

	for (u32 l = EPT_TOP_LEVEL; l > level; l--) {
		u64 entry = *slot(table, gpa, l);

		if (!leads_on(entry, l))
			return NULL;
		table = (u64 *)address_of(entry);
	}
	return slot(table, gpa, level);
}

/* As above, with tables added where there are none. */
static u64 *ept_make_entry(u64 gpa, u32 level)
{
	for (u32 l = EPT_TOP_LEVEL; l > level; l--) {
		u64 *entry = ept_entry(gpa, l);

		if (!entry)
			fail("a region lies under an entry that leads nowhere", gpa);
		if (!is_present(*entry))
			*entry = (u64)new_page() | EPT_RIGHTS;
	}
	return ept_entry(gpa, level);
}

void ept_add(const struct scenario_region *region, bool empty)
{
	u64 size = level_size(region->level);
	u64 more = region->beyond ? beyond_maxphyaddr() : 0;

	for (u32 i = 0; i < region->count; i++) {
		u64 *entry = ept_make_entry(region->l2gpa + i * size, region->level);

		if (!entry)
			fail("a region lies under a leaf", region->l2gpa);
		if (empty)
			continue;
		switch (region->kind) {
		case REGION_LEAF:
			*entry = (region->base + i * size) | region->bits | more;
			if (region->level > 1)
				*entry |= EPT_LARGE;
			break;
		case REGION_RAW:
			*entry = region->bits | more;
			break;
		case REGION_ADJUST:
			*entry = (*entry & region->base) | region->bits | more;
			break;
		}
	}
}

u32 ept_path(u64 gpa, u64 *entries)
{
	u64 *table = root;
	u32 count = 0;

	for (u32 level = EPT_TOP_LEVEL; level; level--) {
		u64 entry = *slot(table, gpa, level);

		entries[count++] = entry;
		if (!leads_on(entry, level))
			break;
		table = (u64 *)address_of(entry);
	}
	return count;
}

static void say_table(const char *tag, u64 *table, u64 gpa, u32 level)
{
	for (u32 i = 0; i < 512; i++, gpa += level_size(level)) {
		if (!is_present(table[i]))
			continue;
		say("{'%s': {'level': %u, 'gpa': '%x', 'address': '%x', 'value': '%x'}}\n",
		    tag, (u64)level, gpa, (u64)&table[i], table[i]);
		if (leads_on(table[i], level))
			say_table(tag, (u64 *)address_of(table[i]), gpa, level - 1);
	}
}

void ept_say(const char *tag)
{
	say_table(tag, root, 0, EPT_TOP_LEVEL);
}
