/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A line at a time to COM1, or straight to the VMM. */
#include "console.h"
#include "cpu.h"
#include "ports.h"

#define HOLDING_EMPTY		0x20
#define TRANSMITTER_EMPTY	0x40

static enum console_mode console_mode;
static char line[32768];
static size_t length;

/* 115200 baud, 8 data bits, no parity, one stop bit, FIFO on, no interrupts. */
static void uart_init(void)
{
	outb(PORT_COM1 + 1, 0x00);
	outb(PORT_COM1 + 3, 0x80);
	outb(PORT_COM1 + 0, 0x01);
	outb(PORT_COM1 + 1, 0x00);
	outb(PORT_COM1 + 3, 0x03);
	outb(PORT_COM1 + 2, 0x07);
}

void console_init(enum console_mode mode)
{
	console_mode = mode;
	if (mode == CONSOLE_POLL)
		uart_init();
}

static void wait_for(u8 status)
{
	while (!(inb(PORT_COM1_STATUS) & status))
		;
}

static void flush(void)
{
	switch (console_mode) {
	case CONSOLE_LINE:
		line[length] = 0;
		outl(PORT_LINE, (u32)(uintptr_t)line);
		break;
	case CONSOLE_REP:
		rep_outsb(PORT_COM1, line, length);
		break;
	case CONSOLE_POLL:
		for (size_t i = 0; i < length; i++) {
			wait_for(HOLDING_EMPTY);
			outb(PORT_COM1, line[i]);
		}
		wait_for(TRANSMITTER_EMPTY);
	}
	length = 0;
}

static void put(char c)
{
	line[length++] = c;
	if (c == '\n' || length == sizeof(line) - 1)
		flush();
}

static void put_string(const char *s)
{
	while (*s)
		put(*s++);
}

static void put_number(u64 value, u32 base)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = "0123456789abcdef"[value % base];
	while (value /= base);
	while (n)
		put(digits[--n]);
}

void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	for (; *format; format++) {
		if (*format != '%') {
			put(*format == '\'' ? '"' : *format);
			continue;
		}
		switch (*++format) {
		case 's':
			put_string(va_arg(arguments, const char *));
			break;
		case 'u':
			put_number(va_arg(arguments, u64), 10);
			break;
		case 'x':
			put_string("0x");
			put_number(va_arg(arguments, u64), 16);
			break;
		}
	}
	va_end(arguments);
}
