# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks through tables: of an EPT, and of a guest's own.

What a guest did is a result here, never an error.

* an EPT: `result` (steps, and why a walk ends), `ept` (one address), `scan` (all of it, in order),
  `runs` (what that gives)
* a guest's tables: `guest_paging` (the registers that decide), `guest_entry` (those that no guest
  has), `linear_address` (before any table), `paging` (the walk), `reserved_bits` and `rights` (what
  it checks)
"""
