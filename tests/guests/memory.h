/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef MEMORY_H
#define MEMORY_H

#include "types.h"

struct multiboot;

/* Everything that the boot loader tells us; all of L1's memory is mapped where it is. */
void memory_init(const struct multiboot *info);
const char *command_line(void);
bool word_on_command_line(const char *word);
u64 number_on_command_line(const char *name, u64 otherwise);
const char *word_value(const char *name, u32 *length);
const void *module_start(void);
size_t module_size(void);

bool is_ram(u64 address, u64 size);
u64 ram_end(u64 address);	/* of the piece of RAM that `address` lies in */

/*
 * Zeroed pages, never freed, from `top` downwards: so tables lie at the same addresses wherever the
 * boot loader has put the modules.
 */
void new_pages_below(u64 top);
void *new_page(void);

void *memset(void *to, int value, size_t count);
void *memcpy(void *to, const void *from, size_t count);
bool same_text(const char *a, const char *b, u32 length);
u32 text_length(const char *s);

/* Tells what is wrong and ends the run. */
void __attribute__((noreturn)) fail(const char *why, u64 value);
void __attribute__((noreturn)) finish(u32 status);

#endif
