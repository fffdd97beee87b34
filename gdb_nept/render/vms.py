# SPDX-License-Identifier: GPL-2.0-or-later
"""The VMs of a host: what nept-vms answers.

JSON: vms [index, address, pid, command, slots (null if unreadable), vcpus, problems, unread]; vcpus
[index, id, address, thread, cpu, mode, vmxon, current_vmptr, l2_active, signs, disagreement,
unknown, unknown_kind, nesting (of an L2: in which way, or null)]; signs [name, says, detail]; notes
[text], unread.  unread [what, kind]: those of the problems, or of the notes, that are memory which
cannot be read, and what became of it ("filtered", "cut", ...); so is unknown_kind.
`unknown` (else null) says why something of a vCPU could not be read, which is null then: all of it,
or `vmxon` and `l2_active`.
"""

from __future__ import annotations

from gdb_nept.kvm.nested_vmx import Nested, Sign
from gdb_nept.kvm.problems import Unreadable
from gdb_nept.kvm.vcpu import Vcpu
from gdb_nept.kvm.vm import UnreadVcpu, Vm
from gdb_nept.kvm.vms import VmList
from gdb_nept.nested.nesting import SAYS, Nesting, Nestings
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Cells, Data, Page, Status, Table


def vms_page(found: VmList, ways: Nestings | None = None) -> Page:
    """`ways`: in which way of nesting each L2 runs."""
    ways = ways or {}
    data: dict[str, Data] = {
        "vms": [_vm_data(vm, ways) for vm in found.vms],
        "notes": list[Data](found.notes),
        "unread": _unread(found.unreadable),
    }
    if not found.vms:
        unread = "KVM is loaded; its VMs cannot be read."
        none = unread if found.unknown else "KVM is loaded; there is no VM."
        return Page((none, *found.notes), data, lambda: _status(found))
    signs = [part for vm in found.vms for vcpu in vm.vcpus for part in _signs(vm, vcpu)]
    signs += [
        f"L2 on VM {vm}, vCPU {vcpu}: {way.value}: {SAYS[way]}" for (vm, vcpu), way in ways.items()
    ]
    blocks: list[str | Table] = [_head(found), _table(found), *signs]
    blocks += [*_problems(found), *found.notes]
    return Page(tuple(blocks), data, lambda: _status(found))


def _head(found: VmList) -> str:
    """3 VMs, 1 of them nested; L2 is active on VM 0, vCPU 0"""
    active = [
        f"VM {vm.index}, vCPU {vcpu.place}"
        for vm in found.vms
        for vcpu in vm.vcpus
        if vcpu.nested is not None and vcpu.nested.l2_active
    ]
    nested = sum(bool(vm.nested) for vm in found.vms)
    unknown = any(vm.nested_unknown or vm.vcpus_unknown or vm.unread for vm in found.vms)
    said = f"{text.count(len(found.vms), 'VM')}, {nested or 'none'} of them with VMX on"
    runs = f"L2 is active on {'; '.join(active)}" if active else "no L2 is active"
    return f"{said}; {runs}{'; not all could be read' if unknown else ''}"


def _status(found: VmList) -> Status:
    """Of a list in which something is not known, that."""
    unread = any(vm.unread or vm.vcpus_unknown or vm.nested_unknown for vm in found.vms)
    unread = unread or any(vm.unreadable for vm in found.vms)
    return Status.UNREAD if unread or found.unknown else Status.DONE


def _problems(found: VmList) -> list[str]:
    """Each problem once, with the VMs that have it."""
    owners: dict[str, list[str]] = {}
    for vm in found.vms:
        for problem in vm.problems:
            owners.setdefault(problem, []).append(str(vm.index))
    return [
        f"{'VM' if len(vms) == 1 else 'VMs'} {', '.join(vms)}: {problem}"
        for problem, vms in owners.items()
    ]


def _table(found: VmList) -> Table:
    """A row for each VM, and below it one for each of its vCPUs."""
    rows: list[Cells] = []
    for vm in found.vms:
        own = [(each.place, _vcpu_row(vm, each)) for each in vm.vcpus]
        own += [(each.place, _unread_row(vm, each)) for each in vm.unread]
        rows += [_vm_row(vm), *(row for _, row in sorted(own))]
    headers = ("VM", "vCPU", "task", "CPU", "slots", "vmcs12 at", "struct kvm, kvm_vcpu", "state")
    return Table(headers, tuple(rows), right=(0, 1, 2, 3, 4))


def _vm_row(vm: Vm) -> Cells:
    return (
        str(vm.index),
        "",
        "-" if vm.pid is None else str(vm.pid),
        "",
        "?" if vm.slots is None else str(vm.slot_count),
        "",
        f"{vm.address:#x}",
        f"{vm.command or '-'}, {_vcpu_count(vm)}",
    )


def _vcpu_count(vm: Vm) -> str:
    count = len(vm.vcpus) + len(vm.unread)
    if not vm.vcpus_unknown:
        return text.count(count, "vCPU")
    return f"{count} or more vCPUs" if count else "? vCPUs"


def _vcpu_row(vm: Vm, vcpu: Vcpu) -> Cells:
    return (
        str(vm.index),
        str(vcpu.place),
        ("?" if vcpu.thread_unknown else "-") if vcpu.thread is None else str(vcpu.thread),
        "-" if vcpu.cpu < 0 else str(vcpu.cpu),
        "",
        "?" if vcpu.nested_unknown else _vmptr(vcpu.nested),
        f"{vcpu.address:#x}",
        _state(vcpu),
    )


def _unread_row(vm: Vm, vcpu: UnreadVcpu) -> Cells:
    return (str(vm.index), str(vcpu.place), "?", "?", "", "?", f"{vcpu.address:#x}", "?")


def _vmptr(nested: Nested | None) -> str:
    if nested is None:
        return "-"
    if nested.evmcs is not None:
        return f"{nested.evmcs:#x} (eVMCS)"
    return "-" if nested.current_vmptr is None else f"{nested.current_vmptr:#x}"


def _state(vcpu: Vcpu) -> str:
    """Who runs, and whether KVM knows it from memory."""
    words = []
    if vcpu.nested_unknown:
        words.append("?")
    elif vcpu.nested is None:
        words.append("no VMX state")
    else:
        l1 = "L1, VMX on" if vcpu.nested.vmxon else "L1"
        words.append("* L2 active" if vcpu.nested.l2_active else l1)
        if vcpu.nested.run_pending:
            words.append("VM entry pending")
        if vcpu.nested.smm_guest_mode:
            words.append("SMM, returns to L2")
    if vcpu.in_guest:
        words.append("in the processor")
    return ", ".join(words)


def _signs(vm: Vm, vcpu: Vcpu) -> list[str]:
    nested = vcpu.nested
    if nested is None or not (nested.l2_active or nested.disagreement):
        return []
    lines = [f"Signs of L2 on VM {vm.index}, vCPU {vcpu.place}:"]
    lines += [f"  {_says(sign):3}  {sign.detail}" for sign in nested.signs]
    if nested.disagreement:
        lines.append(nested.disagreement)
    return ["\n".join(lines)]


def _says(sign: Sign) -> str:
    return "?" if sign.says is None else "yes" if sign.says else "no"


def _vm_data(vm: Vm, ways: Nestings) -> Data:
    return {
        "index": vm.index,
        "address": hexed(vm.address),
        "pid": vm.pid,
        "command": vm.command,
        "slots": None if vm.slots is None else vm.slot_count,
        "vcpus": [
            *(_vcpu_data(vcpu, ways.get((vm.index, vcpu.place))) for vcpu in vm.vcpus),
            *(_unread_data(vcpu) for vcpu in vm.unread),
        ],
        "problems": list[Data](vm.problems),
        "unread": _unread(vm.unreadable),
    }


def _unread(found: tuple[Unreadable, ...]) -> Data:
    """Those of the problems that are memory which cannot be read, with what became of it."""
    return [{"what": one.what, "kind": one.kind.value} for one in found]


def _vcpu_data(vcpu: Vcpu, way: Nesting | None) -> Data:
    nested, unknown = vcpu.nested, vcpu.nested_unknown
    return {
        "index": vcpu.place,
        "id": vcpu.id,
        "address": hexed(vcpu.address),
        "thread": vcpu.thread,
        "cpu": vcpu.cpu if vcpu.cpu >= 0 else None,
        "mode": vcpu.mode_name,
        "vmxon": None if unknown else nested is not None and nested.vmxon,
        "current_vmptr": hexed(nested.current_vmptr) if nested else None,
        "l2_active": None if unknown else nested is not None and nested.l2_active,
        "signs": [_sign_data(sign) for sign in nested.signs] if nested else [],
        "disagreement": nested.disagreement or None if nested else None,
        "unknown": unknown or None,
        "unknown_kind": vcpu.nested_kind.value if vcpu.nested_kind else None,
        "nesting": way.value if way else None,
    }


def _unread_data(vcpu: UnreadVcpu) -> Data:
    return {
        "index": vcpu.place,
        "id": None,
        "address": hexed(vcpu.address),
        "thread": None,
        "cpu": None,
        "mode": None,
        "vmxon": None,
        "current_vmptr": None,
        "l2_active": None,
        "signs": [],
        "disagreement": None,
        "unknown": vcpu.why,
        "unknown_kind": vcpu.kind.value,
        "nesting": None,
    }


def _sign_data(sign: Sign) -> Data:
    return {"name": sign.name, "says": sign.says, "detail": sign.detail}
