# SPDX-License-Identifier: GPL-2.0-or-later
"""The only door to a kernel: its symbols, its types, its memory.

Begin with `ports`: what all others may ask.  Two kinds of kernel answer:

* out of physical memory alone: `linux` attaches to a `kernel`.  It is found by `locate` (`scan`,
  `vmcoreinfo`, `image`, `recent`); symbols are `kernel_symbols` (`kallsyms`, `kallsyms_search`,
  `modules`), types `kernel_types` (`type_sources`, `btf`, `btf_index`, `btf_types`, `layouts`,
  `layout_writer`, `elf`), addresses `pagetable`; `cache` keeps what hangs on the build alone, with
  `fingerprint`, `symbol_file` and `kept_btf`
* through a debugger (`debugger`): `dwarf` (with its vmlinux), `debugged` (nothing else, as kgdb)

Where it is: `live` and `live_memory` (what a debugger is connected to, `remote`), `running` (let
run), `dumped` and `dumped_cpus` (a dump).  `attachment` tells of it all; `gdb/` is gdb's part.
"""
