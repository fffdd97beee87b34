# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM told L1 against what was foreseen, and which known mistakes lead to just that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gdb_nept.arch.exits import EPT_MISCONFIGURATION, ExitReason
from gdb_nept.judge.candidates import Lead, Link, Place
from gdb_nept.judge.foresight import Foreseen, Foresight
from gdb_nept.judge.suspects import Suspect
from gdb_nept.predict.access import Stage
from gdb_nept.predict.case import SDM
from gdb_nept.predict.outcome import Outcome
from gdb_nept.predict.recognise import impossible

EMULATOR_ELSEWHERE = (
    "another access, made by L0's emulator: then KVM emulated an instruction whose own fault it "
    "should have told L1 of"
)


@dataclass(frozen=True)
class Told:
    """What KVM wrote for L1."""

    reason: ExitReason
    qualification: int


@dataclass(frozen=True)
class Comparison:
    """One foreseen exit against what was told; `bits` are the defined bits that differ."""

    foreseen: Foreseen
    reason_differs: bool
    bits: int
    physical_differs: bool
    linear_differs: bool

    @property
    def agrees(self) -> bool:
        return not (
            self.reason_differs or self.bits or self.physical_differs or self.linear_differs
        )

    @property
    def distance(self) -> tuple[int, bool, bool, int]:
        """Nearer is smaller.  A model knows less of the emulator's accesses, and so has less to
        differ in: they are nearest only if the addresses speak for them."""
        fields = self.physical_differs + self.linear_differs
        emulated = self.foreseen.access.emulated
        return (fields, emulated, self.reason_differs, bin(self.bits).count("1"))


@dataclass(frozen=True)
class Case:
    """All that is compared: what was foreseen, and what was told; `elsewhere` makes what L0's
    emulator would lead to by the model `asked`, where it is not in question."""

    place: Place
    link: Link
    foresight: Foresight
    told: Told
    suspects: tuple[Suspect, ...]
    asked: str = ""
    elsewhere: Callable[[], Foresight] | None = None

    def comparisons(self, model: str, page_alone: bool = False) -> tuple[Comparison, ...]:
        """Those of the candidates that exit at all."""
        return self._compared(self.foresight[model], page_alone)

    def _compared(
        self, foreseen: tuple[Foreseen, ...], page_alone: bool = False
    ) -> tuple[Comparison, ...]:
        exits = (each for each in foreseen if each.prediction.reason is not None)
        return tuple(self.compare(each, page_alone) for each in exits)

    def unknown(self, model: str) -> str:
        """Why the model cannot say what one of the accesses leads to; '' if it can of all."""
        outcomes = (each.prediction for each in self.foresight[model])
        return next((each.why for each in outcomes if each.outcome is Outcome.UNKNOWN), "")

    def compare(self, foreseen: Foreseen, page_alone: bool = False) -> Comparison:
        """`page_alone`: by a model that loses the offset of the guest-physical address."""
        predicted, told = foreseen.prediction, self.told
        return Comparison(
            foreseen,
            predicted.reason != told.reason.value,
            (predicted.qualification ^ told.qualification) & predicted.mask,
            predicted.gpa is not None and predicted.gpa != self.place.gpa,
            _page_differs(foreseen, self.link)
            if page_alone
            else _linear_differs(foreseen, self.link),
        )

    def explanations(self) -> Iterator[str]:
        """The known bugs that lead to just what was told; whole releases only if no single rule
        of KVM's does.  What KVM does by all its rules is no bug of any."""
        fitting = self._fitting(emulated=False) or self._fitting(emulated=True)
        fitting = [each for each in fitting if each.itself] or fitting
        names = {each.model.name for each in fitting}
        fitting = [each for each in fitting if each.unless not in names]
        yield from dict.fromkeys(each.says for each in fitting if each.says)
        releases = ", ".join(each.release for each in fitting if each.release)
        if releases and not any(each.says for each in fitting):
            yield f"the rules of KVM in Linux {releases}, together"
        if self.elsewhere and any(
            each.agrees for each in self._compared(self.elsewhere()[self.asked])
        ):
            yield EMULATOR_ELSEWHERE

    def _fitting(self, emulated: bool) -> list[Suspect]:
        """The suspects by which some access of the processor, or of the emulator, leads to it."""
        return [
            suspect
            for suspect in self.suspects
            if any(
                self._leads_to_it(each) and each.foreseen.access.emulated is emulated
                for each in self.comparisons(suspect.model.name, suspect.page_alone)
            )
        ]

    def _leads_to_it(self, compared: Comparison) -> bool:
        """What a misconfiguration passes on is a qualification that a processor has written."""
        value = self.told.qualification
        stale = self.told.reason.basic == EPT_MISCONFIGURATION and value
        passed = stale and value & ~compared.foreseen.prediction.mask
        return compared.agrees and not (passed and impossible(value))

    def as_the_sdm(self, agreeing: Comparison) -> tuple[bool, bool]:
        """An order: the processor's accesses first, and of them those of which the SDM's processor
        would report the same."""
        found = self.by_processor(agreeing)
        return agreeing.foreseen.access.emulated, not found.agrees

    def departures(self, agreeing: Comparison) -> Iterator[str]:
        """The single rules that this KVM has not, and that would have made it report what the SDM's
        processor does."""
        number = agreeing.foreseen.number
        wanted = self.foresight.of(SDM.name, number)
        for suspect in self.suspects:
            if suspect.later and _same(wanted, self.foresight.of(suspect.model.name, number)):
                yield suspect.says

    def by_processor(self, nearest: Comparison) -> Comparison:
        """The same access as the SDM's processor would have it."""
        return self.compare(self.foresight.of(SDM.name, nearest.foreseen.number))


def _same(wanted: Foreseen, other: Foreseen) -> bool:
    """Whether `other` is certain to report what `wanted` defines."""
    first, second = wanted.prediction, other.prediction
    differing = (first.qualification ^ second.qualification) | ~second.mask
    return first.reason == second.reason and not differing & first.mask


def _linear_differs(foreseen: Foreseen, link: Link) -> bool:
    """The guest-linear address was an input: whether it belongs to the access is told by L2's own
    page tables.  Where the model leaves the field undefined, it cannot differ."""
    if foreseen.prediction.gla is None or link.lead is Lead.UNKNOWN:
        return False
    return link.lead is Lead.SAME_PAGE or link.stage is not foreseen.access.stage


def _page_differs(foreseen: Foreseen, link: Link) -> bool:
    """Whether the guest-linear address leads to another page, or, not having lost its offset, to
    the very place that was told."""
    stages = {Lead.SAME_PAGE: Stage.FINAL, Lead.ENTRY_PAGE: Stage.WALK}
    return stages.get(link.lead) is not foreseen.access.stage
