# SPDX-License-Identifier: GPL-2.0-or-later
"""A check of the last reflected exit: what nept-check answers.

JSON: finding ("agree", "differ", "not an EPT exit", "no exit by the tables as they stand", "not
known"), model, verdict (a sentence), told [exit_reason, exit_qualification, guest_physical_address,
guest_linear_address, guest_rip], link [lead, why], agreeing [accesses as in nept-predict], nearest
(null, or a prediction as in nept-predict with differing_bits, reason_differs, physical_differs,
linear_differs), explanations [text], processor (null, or exit_reason, exit_qualification and
differing_bits by the SDM), departures [text; none where
the SDM agrees], features [name, present, how], notes [text],
entry_failure (null, or why VM entry refuses the EPTP).
"""

from __future__ import annotations

from dataclasses import replace

from gdb_nept.arch.exits import APIC_ACCESS, EPT_VIOLATION, ApicAccess, EptViolation
from gdb_nept.judge.check import Check, Finding
from gdb_nept.judge.comparison import Comparison
from gdb_nept.render.ept import refused_in_words
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status, Table
from gdb_nept.render.prediction import access_in_words
from gdb_nept.render.prediction_data import access_data, prediction_data

#: Of the others, nothing contradicts.
STATUSES = {Finding.DIFFER: Status.DIFFERS, Finding.UNKNOWN: Status.UNREAD}


def check_page(found: Check, refusal: str = "") -> Page:
    """The verdict, and why; then what vmcs12 keeps of the exit.  `refusal` is why VM entry refuses
    the EPTP."""
    blocks: list[str | Table] = [
        _head(found),
        *refused_in_words(refusal),
        *_body(found),
        "The exit that KVM reflected to L1 last, as vmcs12 keeps it:",
        _told(found),
    ]
    blocks += [f"note: {note}" for note in found.notes]
    status = STATUSES.get(found.finding, Status.DONE)
    data = {**check_data(found), "entry_failure": refusal or None}
    return Page(tuple(blocks), data, lambda: status)


def _head(found: Check) -> str:
    """EPT violation (exit 48), qualification 0x1aa, at L2 0x2004108: agree"""
    told = found.told
    said = f"{told.reason.name} (exit {told.reason.basic})"
    if found.finding is not Finding.NOT_EPT:
        said += f", qualification {told.qualification:#x}, at L2 {found.place.gpa:#x}"
    short, _, sentence = verdict(found).partition(": ")
    sentence = sentence.removeprefix(f"{told.reason.name}; ")
    lines = [f"{said}: {short}", sentence[:1].upper() + sentence[1:]]
    nearest = found.agreeing[0] if found.agreeing else found.nearest
    return "\n".join([*lines, f"because: {nearest.foreseen.prediction.why}"] if nearest else lines)


def verdict(found: Check) -> str:
    """One sentence."""
    if found.finding is Finding.NOT_EPT:
        return (
            f"{found.finding.value}: {found.told.reason.name}; the guest-physical address is of an "
            "older exit, and there is nothing to check"
        )
    if found.finding is Finding.UNKNOWN:
        return (
            f"{found.finding.value}: model {found.model} does not say what an access to "
            f"{found.place.gpa:#x} leads to: {found.unknown}"
        )
    if found.finding is Finding.NO_EXIT or found.nearest is None:
        return (
            f"{found.finding.value}: EPT12 now lets every access to {found.place.gpa:#x} through; "
            "L1 has changed it since, or KVM should not have reflected this exit"
        )
    if found.finding is Finding.AGREE:
        first = found.agreeing[0].foreseen.access
        return f"agree: it is what model {found.model} predicts for a {access_in_words(first)}"
    return (
        f"differ: no access to {found.place.gpa:#x} leads to this by model {found.model}; the "
        f"nearest is a {access_in_words(found.nearest.foreseen.access)}, which differs in "
        f"{_difference(found.nearest)}"
    )


def _difference(compared: Comparison) -> str:
    predicted = compared.foreseen.prediction
    parts = []
    if compared.reason_differs:
        parts.append(f"the exit reason ({predicted.reason})")
    if compared.bits:
        names = [field.name for field in EptViolation.fields() if field.mask & compared.bits]
        parts.append(
            f"bits {compared.bits:#x} of the qualification ({', '.join(names) or 'undefined'}), "
            f"which should be {predicted.qualification:#x}"
        )
    if compared.physical_differs:
        parts.append(f"the guest-physical address ({predicted.gpa:#x})")
    if compared.linear_differs:
        parts.append("the guest-linear address, which is not that of this access")
    return ", ".join(parts)


def _told(found: Check) -> Table:
    reason, value = found.told.reason, found.told.qualification
    rows = [
        ("exit reason", f"{reason.value:#x}", reason.name),
        ("exit qualification", f"{value:#x}", _names(found)),
    ]
    rows += [
        (field.name.replace("_", " "), f"{field.value:#x}", field.doubt)
        for field in found.place.fields
    ]
    return Table(("field", "value", "says"), tuple(rows), right=(1,))


def _names(found: Check) -> str:
    if found.told.reason.basic == APIC_ACCESS:
        return ApicAccess(found.told.qualification).says
    if found.told.reason.basic != EPT_VIOLATION:
        return ""
    return ", ".join(row.name for row in EptViolation(found.told.qualification).named())


def _body(found: Check) -> list[str]:
    if found.nearest is None:
        return [_explained(found)] if found.explanations else []
    blocks = [f"inferred: {_inferred(found)}"]
    if found.finding is Finding.DIFFER:
        blocks.append(_explained(found))
    blocks += _processor(found)
    return blocks


def _inferred(found: Check) -> str:
    """What is not in vmcs12 and was concluded."""
    link = f"{found.link.lead.value} {found.link.why}".rstrip()
    first, *others = (_kind(each) for each in found.agreeing) if found.agreeing else ("",)
    named = "; ".join(dict.fromkeys(other for other in others if other != first))
    return f"{link}. The exit would be the same for: {named}" if named else link


def _kind(compared: Comparison) -> str:
    """The access whatever the mode."""
    return access_in_words(replace(compared.foreseen.access, user=False))


def _explained(found: Check) -> str:
    causes = [f"  {text}" for text in found.explanations]
    if not causes:
        return "No bug known here leads to just that; L1 may have changed EPT12 since the exit."
    return "\n".join(["What is known to lead to just that:", *causes])


def _processor(found: Check) -> list[str]:
    compared = found.processor
    if compared is None or compared.agrees or found.finding is not Finding.AGREE:
        return []
    predicted = compared.foreseen.prediction
    if predicted.reason is None:
        return ["The SDM's processor would not exit here."]
    text = (
        f"The SDM's processor would report reason {predicted.reason}, qualification "
        f"{predicted.qualification:#x}: this KVM departs from it in {_difference(compared)}"
    )
    causes = [f"  it would be the same in {cause}" for cause in found.departures]
    return ["\n".join([text, *causes])]


def check_data(found: Check) -> dict[str, Data]:
    told = found.told
    data: dict[str, Data] = {
        "finding": found.finding.value,
        "model": found.model,
        "verdict": verdict(found),
        "told": {
            "exit_reason": hexed(told.reason.value),
            "exit_qualification": hexed(told.qualification),
            **{field.name: hexed(field.value) for field in found.place.fields},
        },
        "link": {"lead": found.link.lead.name.lower(), "why": found.link.why},
        "agreeing": [access_data(each.foreseen.access) for each in found.agreeing],
        "nearest": _nearest(found),
        "explanations": list[Data](found.explanations),
        "processor": _processor_data(found),
        "departures": list[Data](found.departures),
        "features": [
            {"name": probe.feature.name, "present": probe.present, "how": probe.how}
            for probe in found.kvm.probes
        ],
        "notes": list[Data](found.notes),
    }
    return data


def _nearest(found: Check) -> Data:
    compared = found.nearest
    if compared is None:
        return None
    foreseen = compared.foreseen
    return {
        **prediction_data(foreseen.access, foreseen.prediction, found.model),
        "differing_bits": hexed(compared.bits),
        "reason_differs": compared.reason_differs,
        "physical_differs": compared.physical_differs,
        "linear_differs": compared.linear_differs,
    }


def _processor_data(found: Check) -> Data:
    if found.processor is None:
        return None
    predicted = found.processor.foreseen.prediction
    return {
        "exit_reason": predicted.reason,
        "exit_qualification": hexed(predicted.qualification) if predicted.reason else None,
        "differing_bits": hexed(found.processor.bits),
    }
