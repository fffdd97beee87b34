# SPDX-License-Identifier: GPL-2.0-or-later
"""What is: L2's memory and registers, from the machine's tables and KVM's structures together.

Begin with `session`: what a command holds.  `choice` picks the vCPU, `epts` its EPTs.

* one address: `journey` (what is found), `follow` (finding it), `virtual` (from a linear address;
  `segments`), `derived` (where EPT12 cannot be read)
* what that means: `verdict` (`agreement`), with `shadowed`, `unmapped`, `identity`, `blame`,
  `wording`
* a whole EPT: `listing` and `table`, `derived_rows`; `space_map`; EPT12 against EPT02: `bulk`,
  `pairs`, `sides`, `kinds`, `backing`
* a whole memory: `spaces`, `pieces`, `export`; bytes of it: `examine`
* registers: `registers`, `guest_registers` (those that paging hangs on), `whose` (a debugger's)
* `owners`: the way back from a page of the host; `vmcs12_owners`; `nesting`: with EPT or without;
  `at_hand`: one number for an expression
"""
