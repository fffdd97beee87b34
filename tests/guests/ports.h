/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O ports through which L1, L2 and the VMM talk.  None of them is intercepted by L1, so the VMM
 * sees an access by L2 while L2 is the active guest.
 */
#ifndef PORTS_H
#define PORTS_H

#define PORT_COM1		0x3f8	/* data; the VMM prints what is written here */
#define PORT_COM1_STATUS	0x3fd	/* line status; 0x20 is "transmitter empty" */
#define PORT_POST		0x80	/* nobody listens: INS and OUTS cases use it */

/* The rest exists under the VMM only (word `vmm=1` on the command line). */
#define PORT_LINE		0x600	/* long: L1 physical address of a NUL-terminated line */
#define PORT_PARK_L1_EXIT	0x601	/* L1 parks, in its handler of an EPT exit */
#define PORT_PARK_L2		0x602	/* L2 parks */
#define PORT_DONE		0x603	/* long: exit status of the VMM */
#define PORT_TOUCHED		0x604	/* long: L1 frame number which an EPT12 leaf uses */


/* Of states.elf. */
#define PORT_PARK_NAMED		0x605	/* long: L1 physical address of the park point's name */
#define PORT_SLOT		0x606	/* long: what to do to the last memslot; then the VMM parks */
#define SLOT_DELETE		0
#define SLOT_BACK		1
#define SLOT_MOVE		2

#endif
