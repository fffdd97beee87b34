# SPDX-License-Identifier: GPL-2.0-or-later
"""Debug nested EPT on a Linux KVM host from outside: see README.md.

    import gdb_nept

    with gdb_nept.open_dump("memory.raw") as target:
        vcpu = target.vcpu()
        print(vcpu.walk(gdb_nept.L2Phys(0x2000000)).verdict.sentence)

The names below are the API, and stay; what they come from is read when one is first asked for.
Read the package from the machine outwards: arch, memory, walk, predict (the SDM's part); target,
kvm (Linux's); nested, judge, live (what is, what must be, what happens); render and commands (what
a user sees).  Each folder begins by saying which file is for what.

Nothing newer than Python 3.0 stands here, so that an old Python gets as far as the message.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036
    _OLD = "gdb_nept needs Python 3.9 or later; this is %d.%d" % sys.version_info[:2]  # noqa: UP031
    if sys.argv[:1] == ["-m"]:  # python3 -m gdb_nept: who asks wants no traceback
        sys.exit(_OLD)
    raise ImportError(_OLD)

from importlib import import_module
from typing import TYPE_CHECKING, Any  # noqa: F401 - in a type comment

if TYPE_CHECKING:
    from gdb_nept.address import HostPhys, HostVirt, L1Phys, L2Phys, L2Virt
    from gdb_nept.api.target import Target, attach, open_dump
    from gdb_nept.api.vcpu import Vcpu, Walked
    from gdb_nept.api.vm import Vm
    from gdb_nept.errors import BadInput, MemoryUnreadable, NeptError, NoGuest, NoKernel
    from gdb_nept.nested.agreement import Agreement, Fault, Verdict
    from gdb_nept.nested.bulk import Stretch
    from gdb_nept.nested.derived_rows import DerivedRun
    from gdb_nept.nested.examine import Break, Bytes, Space
    from gdb_nept.nested.export import Exported, Left
    from gdb_nept.nested.owners import L1Page, L2Page, Owners
    from gdb_nept.nested.spaces import Memory, Pages
    from gdb_nept.nested.table import Table
    from gdb_nept.predict.access import Access, Op, Stage
    from gdb_nept.predict.linear import LinearAccess
    from gdb_nept.walk.runs import Hole, Run, Unread

__version__ = "0.1.0"

_PLACES = {
    "address": ("HostPhys", "HostVirt", "L1Phys", "L2Phys", "L2Virt"),
    "api.target": ("Target", "attach", "open_dump"),
    "api.vcpu": ("Vcpu", "Walked"),
    "api.vm": ("Vm",),
    "errors": ("BadInput", "MemoryUnreadable", "NeptError", "NoGuest", "NoKernel"),
    "nested.agreement": ("Agreement", "Fault", "Verdict"),
    "nested.bulk": ("Stretch",),
    "nested.derived_rows": ("DerivedRun",),
    "nested.examine": ("Break", "Bytes", "Space"),
    "nested.export": ("Exported", "Left"),
    "nested.owners": ("L1Page", "L2Page", "Owners"),
    "nested.spaces": ("Memory", "Pages"),
    "nested.table": ("Table",),
    "predict.access": ("Access", "Op", "Stage"),
    "predict.linear": ("LinearAccess",),
    "walk.runs": ("Hole", "Run", "Unread"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "Access",
    "Agreement",
    "BadInput",
    "Break",
    "Bytes",
    "DerivedRun",
    "Exported",
    "Fault",
    "Hole",
    "HostPhys",
    "HostVirt",
    "L1Page",
    "L1Phys",
    "L2Page",
    "L2Phys",
    "L2Virt",
    "Left",
    "LinearAccess",
    "Memory",
    "MemoryUnreadable",
    "NeptError",
    "NoGuest",
    "NoKernel",
    "Op",
    "Owners",
    "Pages",
    "Run",
    "Space",
    "Stage",
    "Stretch",
    "Table",
    "Target",
    "Unread",
    "Vcpu",
    "Verdict",
    "Vm",
    "Walked",
    "attach",
    "open_dump",
]


def __getattr__(name):
    # type: (str) -> Any
    """PEP 562."""
    if name not in _MODULES:
        raise AttributeError("module " + repr(__name__) + " has no attribute " + repr(name))
    return getattr(import_module(__name__ + "." + _MODULES[name]), name)


def __dir__():
    # type: () -> list[str]
    return sorted(list(globals()) + __all__)
