# SPDX-License-Identifier: GPL-2.0-or-later
"""What is claimed of a run: which model ran, and by which rules that one departs from the SDM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from gdb_nept.address import Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.predict.access import Access, Controls
from gdb_nept.predict.case import BOCHS, SDM, Deviation, Hardware
from gdb_nept.predict.kvm import Feature, Kvm
from gdb_nept.predict.model import Model, Processor, Reflecting
from gdb_nept.predict.outcome import Prediction

LACKS = "no "  # before the name of a Feature that the kernel does not have
EMULATED = "EMULATED"  # the rules of reflected.py for accesses of KVM's emulator


class Claim(Protocol):
    """`rules` are those by which `model` departs from `reference`."""

    @property
    def model(self) -> Model: ...

    @property
    def reference(self) -> Model: ...

    @property
    def rules(self) -> tuple[str, ...]: ...

    def without(self, names: frozenset[str]) -> Model:
        """The model without some of its rules."""
        ...


@dataclass(frozen=True)
class OnProcessor:
    """The processor itself."""

    hardware: Hardware = BOCHS

    @property
    def reference(self) -> Model:
        return Processor(SDM)

    @property
    def model(self) -> Model:
        return Processor(self.hardware)

    @property
    def rules(self) -> tuple[str, ...]:
        return _deviations(self.hardware)

    def without(self, names: frozenset[str]) -> Model:
        return Processor(_less(self.hardware, names))


@dataclass(frozen=True)
class UnderKvm:
    """A KVM, on the processor of its model."""

    kvm: Kvm

    @property
    def reference(self) -> Model:
        return Processor(SDM)

    @property
    def model(self) -> Model:
        return Reflecting(self.kvm)

    @property
    def rules(self) -> tuple[str, ...]:
        """The processor's first: a later KVM may cover what the processor does."""
        lacking = [LACKS + each.name for each in Feature if each not in self.kvm]
        return (*_deviations(self.kvm.hardware), *lacking, EMULATED)

    def without(self, names: frozenset[str]) -> Model:
        gained = {each for each in Feature if LACKS + each.name in names}
        hardware = _less(self.kvm.hardware, names)
        model = Reflecting(Kvm(self.kvm.name, self.kvm.features | gained, hardware))
        return Unemulated(model) if EMULATED in names else model


@dataclass(frozen=True)
class Unemulated:
    """A model that takes every access for one of the processor."""

    model: Model

    @property
    def name(self) -> str:
        return f"{self.model.name}, not emulated"

    @property
    def hardware(self) -> Hardware:
        return self.model.hardware

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        access = replace(access, emulated=False)
        return self.model.predict(memory, eptp, access, cpu, controls)

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        return self.model.refuses(eptp, cpu, controls)


def _deviations(hardware: Hardware) -> tuple[str, ...]:
    return tuple(each.name for each in Deviation if each in hardware)


def _less(hardware: Hardware, names: frozenset[str]) -> Hardware:
    left = frozenset(each for each in hardware.deviations if each.name not in names)
    return Hardware(hardware.name, left)
