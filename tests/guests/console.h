/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CONSOLE_H
#define CONSOLE_H

#include "types.h"

enum console_mode {
	CONSOLE_POLL,		/* a UART: wait for each byte */
	CONSOLE_REP,		/* one REP OUTSB a line */
	CONSOLE_LINE,		/* one exit a line: the VMM reads it from memory */
};

void console_init(enum console_mode mode);

/*
 * printf with %s, %u (u64) and %x (u64, with 0x).  A ' in the format is printed as ", because
 * nearly everything said is JSON.  What was said goes out with its \n.
 */
void say(const char *format, ...);

#endif
