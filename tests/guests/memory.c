/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the boot loader left: command line, module, memory map; and pages to build tables from. */
#include "memory.h"
#include "console.h"

#define MULTIBOOT_CMDLINE	BIT(2)
#define MULTIBOOT_MODULES	BIT(3)
#define MULTIBOOT_MMAP		BIT(6)
#define MMAP_RAM		1

struct multiboot {
	u32 flags;
	u32 mem_lower, mem_upper;
	u32 boot_device;
	u32 cmdline;
	u32 mods_count, mods_addr;
	u32 syms[4];
	u32 mmap_length, mmap_addr;
};

struct multiboot_module {
	u32 start, end, string, reserved;
};

struct multiboot_mmap {
	u32 size;		/* of the rest */
	u64 address, length;
	u32 type;
} __attribute__((packed));

extern char image_end[];

static const char *cmdline = "";
static const struct multiboot_module *module;
static const char *mmap, *mmap_end;
static u64 lowest_free;		/* behind the image and the module */
static u64 last_page;

static u64 page_up(u64 address)
{
	return (address + PAGE_SIZE - 1) & PAGE_MASK;
}

void memory_init(const struct multiboot *info)
{
	lowest_free = page_up((uintptr_t)image_end);
	if (info->flags & MULTIBOOT_CMDLINE)
		cmdline = (const char *)(uintptr_t)info->cmdline;
	if (info->flags & MULTIBOOT_MODULES && info->mods_count) {
		module = (const void *)(uintptr_t)info->mods_addr;
		if (module->end > lowest_free)
			lowest_free = page_up(module->end);
	}
	if (info->flags & MULTIBOOT_MMAP) {
		mmap = (const char *)(uintptr_t)info->mmap_addr;
		mmap_end = mmap + info->mmap_length;
	}
	last_page = lowest_free;
}

const char *command_line(void)
{
	return cmdline;
}

u32 text_length(const char *s)
{
	u32 n = 0;

	while (s[n])
		n++;
	return n;
}

bool same_text(const char *a, const char *b, u32 length)
{
	for (u32 i = 0; i < length; i++)
		if (a[i] != b[i] || !a[i])
			return false;
	return true;
}

/* The text behind `name` (which ends in =), up to a space. */
const char *word_value(const char *name, u32 *length)
{
	u32 n = text_length(name);

	for (const char *p = cmdline; *p; p++) {
		if ((p != cmdline && p[-1] != ' ') || !same_text(p, name, n))
			continue;
		for (*length = 0; p[n + *length] && p[n + *length] != ' '; )
			++*length;
		return p + n;
	}
	return NULL;
}

bool word_on_command_line(const char *word)
{
	u32 rest;

	return word_value(word, &rest) && !rest;
}

u64 number_on_command_line(const char *name, u64 otherwise)
{
	u32 length;
	const char *text = word_value(name, &length);
	u64 value = 0;

	if (!text)
		return otherwise;
	for (u32 i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++)
		value = value * 10 + text[i] - '0';
	return value;
}

const void *module_start(void)
{
	return module ? (const void *)(uintptr_t)module->start : NULL;
}

size_t module_size(void)
{
	return module ? module->end - module->start : 0;
}

u64 ram_end(u64 address)
{
	for (const char *p = mmap; p < mmap_end; ) {
		const struct multiboot_mmap *m = (const void *)p;

		if (m->type == MMAP_RAM && address >= m->address && address - m->address < m->length)
			return m->address + m->length;
		p += m->size + sizeof(m->size);
	}
	return 0;
}

bool is_ram(u64 address, u64 size)
{
	return address + size <= ram_end(address);
}

void new_pages_below(u64 top)
{
	last_page = top;
}

void *new_page(void)
{
	if (last_page < lowest_free + PAGE_SIZE)
		fail("out of memory", last_page);
	last_page -= PAGE_SIZE;
	return memset((void *)last_page, 0, PAGE_SIZE);
}

void *memset(void *to, int value, size_t count)
{
	void *p = to;

	asm volatile("rep stosb" : "+D"(p), "+c"(count) : "a"(value) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t count)
{
	void *p = to;

	asm volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(count) : : "memory");
	return to;
}
