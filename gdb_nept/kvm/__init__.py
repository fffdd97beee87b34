# SPDX-License-Identifier: GPL-2.0-or-later
"""Where KVM keeps what, in Linux 4.9 and later: decoded as it stands, and not judged.

* the way in: `loaded` (is KVM there), `vms` (their list), `vm` (one), `vcpu`, `vcpu_registers`,
  `nested_vmx` (nested state)
* vmcs12: `vmcs12`, `vmcs12_layout` (where a field lies), `authority` and `guest_state` (which copy
  of it counts), `vmcs12_scan` (by its content), `dumped_vmcs` (in a dump)
* L1's memory: `memslots`, `tracking` (what is counted for a page), `visible` (what L2 sees)
* KVM's own EPTs: `shadow` (roots), `shadow_page` (tables), `spte` (entries), `spte_format` and
  `spte_words` (how this kernel writes them)
* under them: `containers`, `variables`, `lost` and `problems` (what this kernel, or this memory,
  does not tell)
"""
