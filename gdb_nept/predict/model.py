# SPDX-License-Identifier: GPL-2.0-or-later
"""The models to predict with, by name: processors, KVMs, Xen, and the 2012 series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gdb_nept.address import Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.errors import BadArgument
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.near import advised
from gdb_nept.predict import nept_v2
from gdb_nept.predict.access import Access, Controls
from gdb_nept.predict.case import BOCHS, BOCHS_3, SDM, Deviation, Hardware
from gdb_nept.predict.entry import apic_problem, nmi_problem
from gdb_nept.predict.hardware import predict
from gdb_nept.predict.kvm import KERNELS, Habit, Kvm, features_of
from gdb_nept.predict.never_run import with_never_run
from gdb_nept.predict.outcome import Prediction
from gdb_nept.predict.reflected import reflect
from gdb_nept.predict.sub_page import pointer_problem
from gdb_nept.predict.xen import Rule, Xen, reflect_by_xen


class Model(Protocol):
    """One whose exits are predicted: a processor, or a hypervisor that tells L1 of them."""

    @property
    def name(self) -> str: ...

    def __hash__(self) -> int: ...

    @property
    def hardware(self) -> Hardware:
        """The processor that walks L2's own tables."""
        ...

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        """The outcome of `access`; raises nothing for what a guest did."""
        ...

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        """Why VM entry would fail with these controls, or ''."""
        ...


@dataclass(frozen=True)
class Processor:
    """What the processor itself does."""

    hardware: Hardware

    @property
    def name(self) -> str:
        return self.hardware.name

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        found = predict(memory, eptp, access, cpu, controls, self.hardware)
        return with_never_run(found, access, eptp, cpu)

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        pointer = controls.sppt_pointer or 0
        width = cpu.maxphyaddr
        return (
            apic_problem(controls.apic, width)
            or nmi_problem(controls)
            or eptp.refusal(cpu, self.hardware.eptp)
            or pointer_problem(pointer, width)
        )


@dataclass(frozen=True)
class Reflecting:
    """What a KVM makes for L1."""

    kvm: Kvm

    @property
    def name(self) -> str:
        return self.kvm.name

    @property
    def hardware(self) -> Hardware:
        return self.kvm.hardware

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        found = reflect(memory, eptp, access, cpu, controls, self.kvm)
        return with_never_run(found, access, eptp, cpu)

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        return self.kvm.refuses(eptp, cpu, controls)


@dataclass(frozen=True)
class ReflectingXen:
    """What Xen makes for L1."""

    xen: Xen

    @property
    def name(self) -> str:
        return self.xen.name

    @property
    def hardware(self) -> Hardware:
        return self.xen.hardware

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        found = reflect_by_xen(memory, eptp, access, cpu, self.xen, controls.apic)
        return with_never_run(found, access, eptp, cpu)

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        return self.xen.refuses(eptp, cpu, controls)


@dataclass(frozen=True)
class NeptV2:
    """The series of 2012."""

    name: str = "v2-2012"

    @property
    def hardware(self) -> Hardware:
        return nept_v2.KVM.hardware

    def predict(
        self,
        memory: PhysicalMemory[Out],
        eptp: Eptp,
        access: Access,
        cpu: Capabilities,
        controls: Controls,
    ) -> Prediction[Out]:
        found = nept_v2.inject(memory, eptp, access, cpu, controls)
        return with_never_run(found, access, eptp, cpu)

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        return nept_v2.KVM.refuses(eptp, cpu, controls)


#: What each name in Prediction.rules says.
RULES = {each.name: str(each.value) for kind in (Habit, Rule, Deviation) for each in kind}
PROCESSORS = {each.name: each for each in (SDM, BOCHS, BOCHS_3)}
XEN = "xen"
OTHERS = "a release between, or KVM@PROCESSOR, xen@PROCESSOR"
NAMES = (*PROCESSORS, *KERNELS, XEN, NeptV2.name)


def model(name: str) -> Model:
    """A model by its name: one of NAMES, a KVM of a release between those, or 'L0@PROCESSOR' for a
    KVM or Xen that does not run on a processor as the SDM has it ('kvm-6.1@bochs-2.7').  Raises
    BadArgument."""
    hypervisor, _, processor = name.partition("@")
    if name in PROCESSORS:
        return Processor(PROCESSORS[name])
    if name == NeptV2.name:
        return NeptV2()
    hardware = PROCESSORS.get(processor or SDM.name)
    features = features_of(hypervisor)
    if hardware is not None and features is not None:
        return Reflecting(Kvm(name, features, hardware))
    if hardware is not None and hypervisor == XEN:
        return ReflectingXen(Xen(name, hardware))
    raise BadArgument(
        f"there is no model '{name}'",
        advised(name, NAMES, f"Models: {', '.join(NAMES)}, {OTHERS}."),
    )
