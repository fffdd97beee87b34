# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be, against what KVM told L1.

* `ground`: what a prediction for a live L2 is made from; `features`: the attached KVM as a model;
  `oracle`: a model with its ground
* `check`: the last exit that L1 was told of; its steps: `candidates` (what the access may have
  been), `foresight` (what each must lead to), `comparison` (with what was told)
* what may be wrong: `suspects`, of which `mistakes` and `slips` are single ones
* `triage`: all of it, of a dump that nobody has looked at
"""
