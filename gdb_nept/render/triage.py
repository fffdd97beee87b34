# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump in one line of JSON: what nept triage answers.

JSON: file, outcome ("read", "unreadable", "timed out", "crashed"), status (what nept would end
with), kernel (null if there is none), vms [vm, pid, command, vcpus, l2_active (how many)] (null if
unknown), nested [vm, vcpu, l2_active, eptp, last_exit (null, or reason, name, qualification,
guest_physical_address), check (null, or finding, verdict, explanations), walk (null, or agreement,
verdict, fault), anomalies [text]], anomalies [text] (of VMs, and of the nested vCPUs once more),
missing [what, advice], notes [text].
"""

from __future__ import annotations

from gdb_nept.arch.exits import ExitReason
from gdb_nept.errors import NeptError
from gdb_nept.judge.check import Finding
from gdb_nept.judge.triage import Nested, Triage, differs
from gdb_nept.kvm.vm import Vm
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.render.check import verdict
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Status

SCHEMA = "nept-triage/1"


def triage_data(file: str, release: str, found: Triage) -> dict[str, Data]:
    vms = found.vms.vms if found.vms is not None else ()
    unknown = [f"VM {vm.index}: {problem}" for vm in vms for problem in vm.problems]
    if found.vms is not None and found.vms.unknown:
        unknown.append(found.vms.unknown)
    missing: list[Data] = [
        *(_missing(error) for error in found.missing),
        *(_missing(error) for one in found.nested for error in one.missing),
    ]
    missing += [{"what": each, "advice": None} for each in unknown]
    anomalies = [f"{_place(one)}: {each}" for one in found.nested for each in _odd(one)]
    notes = [*found.notes, *(found.vms.notes if found.vms else ())]
    notes += [f"{_place(one)}: {each}" for one in found.nested for each in one.notes]
    return {
        **failed_data(file, "read", _status(found, bool(missing))),
        "kernel": release,
        "vms": None if found.vms is None else [_vm(vm) for vm in vms],
        "nested": [_nested(one) for one in found.nested],
        "anomalies": list[Data](anomalies),
        "missing": missing,
        "notes": list[Data](notes),
    }


def _place(one: Nested) -> str:
    return f"VM {one.vm}, vCPU {one.vcpu}"


def failed_data(
    file: str, outcome: str, status: Status, error: NeptError | None = None
) -> dict[str, Data]:
    """Of a dump in which there is nothing to tell of, and why."""
    return {
        "schema": SCHEMA,
        "file": file,
        "outcome": outcome,
        "status": status.value,
        "kernel": None,
        "vms": None,
        "nested": [],
        "anomalies": [],
        "missing": [] if error is None else [_missing(error)],
        "notes": [],
    }


def _status(found: Triage, unread: bool) -> Status:
    if any(map(differs, found.nested)):
        return Status.DIFFERS
    return Status.UNREAD if unread else Status.DONE


def _missing(error: NeptError) -> dict[str, Data]:
    return {"what": error.message, "advice": error.advice or None}


def _odd(one: Nested) -> list[str]:
    """What contradicts; of a check and a walk the verdict itself."""
    told = list(one.anomalies)
    if one.check is not None and one.check.finding is Finding.DIFFER:
        told.append(verdict(one.check))
    if one.walk is not None and differs(one) and one.walk.sentence:
        told.append(f"{one.walk.agreement.value}: {one.walk.sentence}")
    return told


def _vm(vm: Vm) -> Data:
    nested = [vcpu.nested for vcpu in vm.vcpus if vcpu.nested is not None]
    return {
        "vm": vm.index,
        "pid": vm.pid,
        "command": vm.command,
        "vcpus": len(vm.vcpus) + len(vm.unread),
        "l2_active": sum(one.l2_active for one in nested),
    }


def _nested(one: Nested) -> Data:
    checked, walked = one.check, one.walk
    return {
        "vm": one.vm,
        "vcpu": one.vcpu,
        "l2_active": one.l2_active,
        "eptp": hexed(one.vmcs12.eptp.value) if one.vmcs12 else None,
        "last_exit": _last_exit(one.vmcs12) if one.vmcs12 else None,
        "check": None
        if checked is None
        else {
            "finding": checked.finding.value,
            "verdict": verdict(checked),
            "explanations": list[Data](checked.explanations),
        },
        "walk": None
        if walked is None
        else {
            "agreement": walked.agreement.value,
            "verdict": walked.sentence,
            "fault": walked.fault.value,
        },
        "anomalies": list[Data](_odd(one)),
    }


def _last_exit(found: Vmcs12) -> Data:
    reason = ExitReason(found.number("vm_exit_reason"))
    return {
        "reason": hexed(reason.value),
        "name": reason.name,
        "qualification": hexed(found.number("exit_qualification")),
        "guest_physical_address": hexed(found.number("guest_physical_address")),
    }
