# SPDX-License-Identifier: GPL-2.0-or-later
"""From a finished walk and an access to the VM exit.  Nothing here has seen an exit that happened.

* the question: `access`; the answer: `outcome`; both with the walk: `case`
* the processor: `hardware`, with `qualification`, `sub_page` and `apic`; at VM entry: `entry`
* what a hypervisor makes of it for L1: `kvm` (which KVM has which rule), `reflected`, `passed_on`;
  `xen`; `nept_v2` (the series of 2012)
* `model`: all of them by name; `never_run`: rules from the manual alone; `recognise`: what a
  qualification says, whoever wrote it
* `linear`: an instruction's access at a linear address, with all that it makes before; `marked`:
  the flags and the log that those set
* in JSON: `request`, `guest_request`, `given`
"""
