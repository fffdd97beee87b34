# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verdict is: how far the ways agree, why, and who is at fault if they do not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Agreement(Enum):
    """The value is the short form in output and JSON."""

    AGREE = "agree"
    WRITE_TRACKED = "write-tracked"
    NOT_SHADOWED = "not yet shadowed"
    STALE = "stale"
    BROKEN = "broken"
    NOT_MAPPED = "not mapped by L1"
    MISCONFIGURED = "misconfigured by L1"
    NO_SLOT = "no memslot"
    HIDDEN_SLOT = "hidden memslot"
    BEING_CHANGED = "memslot being changed"
    NOT_BACKED = "not backed by the host"
    NO_ROOT = "no root"
    REFUSED = "refused by VM entry"
    UNREADABLE = "unreadable"


#: Verdicts of a translation that is not what EPT12 says.
WRONG = (Agreement.STALE, Agreement.BROKEN)


class Fault(Enum):
    """Whose mistake it is; the value is the name in output and JSON."""

    NOBODY = "nobody"
    L1 = "L1"
    KVM = "KVM"
    VMM = "the VMM"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Blame:
    """`how` it came to be, as a part of a sentence; `why` says what L1 forgot, or which of KVM's
    functions should have caught it."""

    fault: Fault
    how: str
    why: str


@dataclass(frozen=True)
class Verdict:
    """How far the ways agree, in a sentence; `why` says what the one at fault did or forgot."""

    agreement: Agreement
    sentence: str
    fault: Fault = Fault.NOBODY
    why: str = ""


def blamed(agreement: Agreement, sentence: str, blame: Blame) -> Verdict:
    """A verdict whose sentence ends in how it came to be."""
    return Verdict(agreement, f"{sentence}: {blame.how}", blame.fault, blame.why)
