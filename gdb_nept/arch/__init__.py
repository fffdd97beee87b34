# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine, bit by bit, as the SDM has it.  Pure functions of integers: nothing is read here.

Begin with `bits`: how a bit is written once, with its name and meaning.

* `cpu`: what the processor can do; `ept`: EPTP and the entries of an EPT; `paging`: the entries of
  a guest's own tables
* `exits`: exit reasons and qualifications; `vmcs`: the fields of a VMCS; `controls`: its controls
* `words`: all that can be decoded, by the name that a user gives it
"""
