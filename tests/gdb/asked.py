# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Python API says of a host, as data: asked of open_dump(), and in gdb of attach().

gdb runs this file itself, in the Python that it brings; so it takes gdb_nept alone.
"""

from __future__ import annotations

from typing import Any

import gdb_nept
from gdb_nept import Access, L1Phys, L2Phys, L2Virt, Op

ADDRESSES = (0x2000000, 0x2004108, 0x2012000, 0x200000000, 0x7FFFFFFF000, 0)


def told(target: gdb_nept.Target) -> dict[str, Any]:
    """Of each kind of object something, of the nested vCPU all."""
    vcpu = target.vcpu()
    return {
        "types": [type(one).__qualname__ for one in (target, next(target.vms()), vcpu)],
        "release": target.release,
        "vms": [of_vm(vm) for vm in target.vms()],
        "vcpu": (vcpu.number, vcpu.nested, vcpu.l2_active),
        "vmcs12": [(one.name, one.value, one.authority.value) for one in vcpu.vmcs12().fields],
        "registers": repr(vcpu.registers()),
        "walks": [of_walk(vcpu.walk(L2Phys(address))) for address in ADDRESSES],
        "virtual": repr(vcpu.walk_virtual(L2Virt(0x2000000)).walk),
        "predictions": [
            repr(vcpu.predict(Access(L2Phys(address), op))) for address in ADDRESSES for op in Op
        ],
        "check": vcpu.check().finding.value,
        "epts": [
            [repr(one) for one in ept.runs(high=1 << 33)]
            for ept in (vcpu.ept12, vcpu.ept02, vcpu.ept01)
        ],
        "l1": repr(vcpu.memory.read(L1Phys(0x1020000), 64)),
        "l2": repr(vcpu.l2_memory.read(L2Phys(0x2000000), 64)),
        "unread": repr(vcpu.memory.read(L1Phys(1 << 51), 8)),
    }


def of_vm(vm: gdb_nept.Vm) -> dict[str, Any]:
    return {
        "number": vm.number,
        "pid": vm.pid,
        "vcpus": [vcpu.number for vcpu in vm.vcpus],
        "slots": [repr(slot) for slot in vm.slots],
        "shadow_pages": [page.address for page in vm.shadow_pages().pages],
    }


def of_walk(found: gdb_nept.Walked) -> dict[str, Any]:
    return {
        "l1": found.l1,
        "host": found.host,
        "verdict": found.verdict.sentence,
        "fault": found.fault.value,
        "agreement": found.agreement.value,
        "steps": [repr(step) for step in found.journey.ept12.steps],
    }
