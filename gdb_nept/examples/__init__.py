# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts that use the Python API: python3 -m gdb_nept.examples.NAME DUMP.

Each is a function of a target, so that it works in gdb as well, with gdb_nept.attach(): `rights`,
`shadow` (EPT12 against EPT02), `sizes` (of pages), `stuck` (why an L2 is), `triage` (many dumps).
"""
