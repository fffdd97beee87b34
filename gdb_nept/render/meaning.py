# SPDX-License-Identifier: GPL-2.0-or-later
"""What a word says as a whole, and what is wrong with it."""

from __future__ import annotations

from gdb_nept.arch.bits import Word
from gdb_nept.arch.controls import Controls
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import (
    LEVEL_NAMES,
    WIDEST,
    EptEntry,
    Eptp,
    misconfigured,
    page_size,
    reserved_above,
)
from gdb_nept.arch.exits import ApicAccess, EptViolation, ExitReason
from gdb_nept.arch.paging import Entry
from gdb_nept.arch.vmcs import Encoding, field_name
from gdb_nept.predict import recognise
from gdb_nept.predict.kvm import KVM_EPTP
from gdb_nept.render.text import in_words, size

#: A processor that has every feature: what is wrong for it is wrong for all.
EVERYTHING = EptVpidCap(sum(field.mask for field in EptVpidCap.fields()))


def meaning(word: Word, level: int, wrong: bool = False) -> str:
    """A sentence about the whole word, found at `level` if it is an entry; '' if there is no more
    to say than its bits do.  What is `wrong` leads nowhere and names nothing."""
    if isinstance(word, EptEntry):
        return _entry(word, level, wrong)
    if isinstance(word, Eptp):
        return "" if wrong else _eptp(word)
    if isinstance(word, ExitReason):
        return word.name
    if isinstance(word, ApicAccess):
        return word.says
    if isinstance(word, EptViolation):
        return recognise.in_words(word.value)
    return field_name(word.value) if isinstance(word, Encoding) and not wrong else ""


def _eptp(pointer: Eptp) -> str:
    """What it leads to, and whether KVM as L0 takes it."""
    says = f"leads to an EPT of {pointer.levels} levels, whose top table is at {pointer.address:#x}"
    refused = pointer.problem(Capabilities(WIDEST, EVERYTHING), KVM_EPTP)
    return says + (f"; KVM refuses it from an L1: {refused}" if refused else "")


def _entry(entry: EptEntry, level: int, wrong: bool) -> str:
    name = f"a {LEVEL_NAMES[level]}"
    if not entry.present(mbec=True):
        return f"{name}, not present: an access causes an EPT violation"
    leaf = entry.leaf_at(level)
    says = in_words(entry, leaf, mbec=True)
    if wrong:
        return f"{name} that an access cannot use; its bits say: {says}"
    if not entry.present():
        name += ", present under mode-based execute control (MBEC) only,"
    target = f"table at {entry.address:#x}"
    if leaf:
        target = f"page of {size(page_size(level))} at {entry.page(level):#x}"
    return f"{name} that leads to the {target}: {says}"


def problem(word: Word, level: int, maxphyaddr: int) -> str:
    """Why any processor of this physical-address width would refuse the word; '' if none would."""
    cpu = Capabilities(maxphyaddr, EVERYTHING)
    if isinstance(word, Eptp):
        return word.problem(cpu)
    if isinstance(word, EptEntry) and word.present():
        bad = misconfigured(word, level, cpu)
        return f"EPT misconfiguration: {bad[0].value} (bits {bad[1]:#x})" if bad else ""
    if isinstance(word, Entry) and word.present and word.value & reserved_above(maxphyaddr):
        bad_bits = word.value & reserved_above(maxphyaddr)
        return f"bits beyond MAXPHYADDR ({maxphyaddr}) are set: {bad_bits:#x}"
    if isinstance(word, EptViolation):
        return _no_qualification(word.value)
    if isinstance(word, ApicAccess) and not word.defined:
        return f"no processor reports this: bits 15:12 are {word.kind}, which is no kind of access"
    if isinstance(word, (Encoding, ExitReason)):
        return word.problem
    if isinstance(word, Controls) and word.missing_default1:
        return f"reserved bits that must be 1 are 0: {word.missing_default1:#x}"
    return ""


def _no_qualification(value: int) -> str:
    """Why no processor writes it, and what it is more likely to be."""
    reasons = "; ".join(recognise.impossible(value))
    code = recognise.error_code(value)
    refused = f"no processor reports this: {reasons}" if reasons else ""
    kvm = recognise.written_by_kvm(value) if reasons else ""
    if kvm:
        kvm += "; nept-check tells whether the tables lead to it"
    return ". ".join(part[:1].upper() + part[1:] for part in (refused, kvm, code) if part)
