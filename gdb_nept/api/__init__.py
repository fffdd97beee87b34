# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects of the Python API: a host, its VMs, their vCPUs, and what L2 can reach on each.

Addresses are integers of the types of gdb_nept.address (L2Phys, L1Phys, HostPhys), sizes are bytes,
and every error is a NeptError.  A target that runs between two questions is read anew by
Target.drop(); an object taken before stays as it was read.

`target`: a host; `vm`: one of its VMs; `vcpu`: one vCPU of it, and its L2.
"""
