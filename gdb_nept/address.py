# SPDX-License-Identifier: GPL-2.0-or-later
"""The address spaces of a nested guest, as types.

The right number in the wrong space is the costliest mistake in this field, so each space is a
type of its own and mypy refuses to mix them.  From the inside out:

    L2Virt -> L2Phys -> L1Phys -> HostVirt -> HostPhys

`HostVirt` is a user address of the process that runs the guest (QEMU); `KernelVirt` is an address
of L0's kernel, where KVM keeps its structures.
"""

from __future__ import annotations

from typing import NewType, TypeVar

L2Virt = NewType("L2Virt", int)
L2Phys = NewType("L2Phys", int)
L1Phys = NewType("L1Phys", int)
HostVirt = NewType("HostVirt", int)
HostPhys = NewType("HostPhys", int)
KernelVirt = NewType("KernelVirt", int)

In = TypeVar("In", bound=int)  # the space that a walk takes an address of
Out = TypeVar("Out", bound=int)  # the space that its tables and its answer lie in
Space = TypeVar("Space", bound=int)
