# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes at a physical address, from wherever they come.  No Linux, and no gdb.

Begin with `reader`: what a memory is to all others.

* made of others: `sparse` (given words), `standing` (as it stood once), `guest` (L1's, through
  memslots), `ram` (all of a target's)
* live: `stub` (what a debugger does for us), `transport` (the ways to read, and their choice), and
  the ways: `process`, `shared_file`, `qemu`, `direct`; under them `blocks`, `mapped`, `owner`
* dumps: `dump` opens one; `dump_format`, `raw`, `elf_dump`, `segments`, `kcore`, `kdump`,
  `kdump_process`, `kdump_child`, `kdump_table`, `flattened`, `holes` (of the file);
  `cpu_registers` and `taken` are what it tells besides; `core_file` writes one
* `budget`: how much of all that one command looks at
"""
