# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens: a machine from stop to stop.

* `watch`: each exit that KVM makes for L1; `injection`: where it makes them; `kept`: the faults
  that L0 deals with alone
* `state`: a vCPU's nested state as a whole; `stops`: those of one stop and another
"""
