# SPDX-License-Identifier: GPL-2.0-or-later
"""Mistakes that a hypervisor can make in telling L1 of an EPT fault, each as a model.

A mistake starts from what a model without it predicts over the very tables, and does to that what
the mistake does.  It is named only where the outcome is what was told: no value is a mistake by its
look alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic

from gdb_nept.address import Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import LEVEL_NAMES, Eptp
from gdb_nept.errors import NoMemory
from gdb_nept.judge import slips
from gdb_nept.judge.slips import Question, Slip
from gdb_nept.memory.reader import PAGE_MASK, PhysicalMemory
from gdb_nept.predict.access import Access, Controls
from gdb_nept.predict.case import Hardware
from gdb_nept.predict.model import Model, Reflecting
from gdb_nept.predict.outcome import Prediction
from gdb_nept.walk.ept import walk_ept_by_index


@dataclass(frozen=True)
class Mistaken:
    """`base`, but for one mistake; `slip` says how.  `page_alone`: of the guest-physical address
    only the page is to be trusted."""

    name: str
    base: Model
    says: str
    slip: Callable[[Question[Out], Prediction[Out]], Prediction[Out]]
    page_alone: bool = False

    @property
    def hardware(self) -> Hardware:
        return self.base.hardware

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        question = Question(memory, eptp, access, cpu, controls, self.base)
        return self.slip(question, question.put_to(self.base))

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        return self.base.refuses(eptp, cpu, controls)


@dataclass(frozen=True)
class Unread:
    """A KVM for which the tables of one level of EPT12 lie in no memslot."""

    name: str
    base: Reflecting
    level: int
    says: str = Slip.NO_TABLE

    @property
    def hardware(self) -> Hardware:
        return self.base.hardware

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        question = Question(memory, eptp, access, cpu, controls, self.base)
        steps = walk_ept_by_index(memory, eptp, access.gpa, cpu).steps
        table = next((step.table for step in steps if step.level == self.level), None)
        if table is None:
            return question.put_to(self.base)
        return replace(question, memory=Without(memory, table)).put_to(self.base)

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        return self.base.refuses(eptp, cpu, controls)


class Without(Generic[Out]):
    """A memory with no page at `page`."""

    def __init__(self, below: PhysicalMemory[Out], page: int) -> None:
        self._below, self._page = below, page

    def read(self, address: Out, size: int) -> bytes:
        if (address ^ self._page) & ~PAGE_MASK == 0:
            raise NoMemory(address, size, "taken away")
        return self._below.read(address, size)


def mistakes(base: Model, kvm: Reflecting) -> Iterator[Mistaken | Unread]:
    """All of them, made by `base`; those that are KVM's alone by `kvm`."""
    for name, says, slip in (
        ("48 for 49", Slip.TOLD_48, slips.told_48),
        ("48 for 49, with rights", Slip.TOLD_48, slips.told_48_with_rights),
        ("48 for 49, with 0", Slip.TOLD_48, slips.told_48_as_it_is),
        ("49 for 48", Slip.TOLD_49, slips.told_49),
        ("49 for 48, with 0", Slip.TOLD_49, slips.told_49_cleared),
        ("raw bits", Slip.RAW_BITS, slips.raw_bits),
        ("raw", Slip.RAW_WHOLE, slips.raw_whole),
        ("no bits 8:7", Slip.LINEAR_BITS_LOST, slips.linear_bits_lost),
        ("no bit 8", Slip.LINEAR_BITS_LOST, slips.translated_lost),
        ("walk as read", Slip.WALK_READS, slips.walk_reads),
        ("error code", Slip.ERROR_CODE, slips.error_code),
    ):
        yield Mistaken(f"{base.name}: {name}", base, says, slip)
    yield Mistaken(f"{base.name}: page", base, Slip.OFFSET_LOST, slips.offset_lost, page_alone=True)
    for level in LEVEL_NAMES:
        yield Unread(f"{kvm.name}: no {LEVEL_NAMES[level]}s", kvm, level)
