# SPDX-License-Identifier: GPL-2.0-or-later
"""The declared commands, settings and functions, registered in gdb.

`registry` registers them all: `commands`, `settings`, `functions`.  `context` is where they run,
`screen` what they write on.
"""
