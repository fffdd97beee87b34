/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CASES_H
#define CASES_H

#include "types.h"

enum outcome {
	OUTCOME_NONE,
	OUTCOME_EXIT,		/* the access made L2 exit */
	OUTCOME_TRANSLATED,	/* it went through */
	OUTCOME_SKIPPED,	/* this machine lacks what the case needs */
};

/* The log in memory: an array of these, one for each case that was run. */
struct log_record {
	u32 number;		/* of the case, in the scenario file */
	u8 outcome;
	u8 entries;		/* how many of `entry` are in use */
	u16 reason;
	u64 qualification;
	u64 gpa;		/* this and `gla`: not for exceptions */
	u64 gla;
	u64 rip;
	u64 value;		/* what was read; of an exception: error code << 32 | interruption */
	u64 entry[4];		/* EPT12 on the path of `gpa`, top level first */
};

struct case_options {
	bool vmm;		/* there is a VMM to park and to report frames to */
	bool quiet;		/* say no cases */
	u64 first, count;	/* which part of the table */
};

#endif
