# SPDX-License-Identifier: GPL-2.0-or-later
"""Which features of predict/kvm.py the attached KVM has: told from its types, and from what
it offers this L1, never from its version.

A rule of KVM's code leaves no mark in its types by itself.  It is then told by a member that came
with it or after it, and the probe says which; where nothing tells, the probe says that too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdb_nept.arch.bits import Word
from gdb_nept.errors import MemberMissing, TypeMissing
from gdb_nept.kvm.nested_vmx import Nested
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.predict.case import SDM, Hardware
from gdb_nept.predict.kvm import KERNELS, Feature, Kvm
from gdb_nept.predict.model import NAMES, PROCESSORS, XEN, Model, Reflecting, model
from gdb_nept.target.ports import CType, Kernel

ATTACHED = "kvm"  # the name of the model that is made here
WITH_FROM_HARDWARE = 3  # parameters of kvm_mmu.inject_page_fault()


@dataclass(frozen=True)
class Probe:
    """What is known of one feature.  `present` is None where nothing tells; the prediction then
    takes `assumed`."""

    feature: Feature
    present: bool | None
    how: str
    assumed: bool = False

    @property
    def taken(self) -> bool:
        return self.assumed if self.present is None else self.present


@dataclass(frozen=True)
class KvmModel:
    """The attached KVM as a model, and how each of its features was found."""

    model: Reflecting
    probes: tuple[Probe, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """What could not be probed, and what is assumed instead."""
        return tuple(
            f"not known of this kernel, and assumed {'to be' if each.taken else 'not to be'} so: "
            f"{each.feature.value} ({each.how})"
            for each in self.probes
            if each.present is None
        )


def kvm_model(session: Session, chosen: Chosen, hardware: Hardware = SDM) -> KvmModel:
    """The KVM that runs `chosen`, on `hardware`: the kernel does not tell what it runs on."""
    nested = chosen.vcpu.nested
    offered = nested and (nested.secondary_allowed, nested.ept_vpid_cap, nested.lost)
    return session.by_types((hardware, offered), lambda: _probed(session.kernel, nested, hardware))


def _probed(kernel: Kernel, nested: Nested | None, hardware: Hardware) -> KvmModel:
    probes = tuple(probe(kernel, nested))
    features = frozenset(each.feature for each in probes if each.taken)
    return KvmModel(Reflecting(Kvm(_name(hardware), features, hardware)), probes)


def named_model(session: Session, chosen: Chosen, name: str) -> Model:
    """As predict.model.model(), and besides "kvm", the attached one, and "kvm@PROCESSOR"."""
    processor = name.partition("@")[2] or SDM.name
    known = fixed_model(name)
    return known or kvm_model(session, chosen, PROCESSORS[processor]).model


def fixed_model(name: str) -> Model | None:
    """The model of that name, None if it is the attached KVM's.  Raises BadInput for no name."""
    if is_attached(name) and (name.partition("@")[2] or SDM.name) in PROCESSORS:
        return None
    return model(name)


def is_attached(name: str) -> bool:
    """Whether `name` means the attached KVM, on whatever processor."""
    return name.partition("@")[0] == ATTACHED


def model_names(word: str = "") -> list[str]:
    """What --model can be."""
    reflecting = [ATTACHED, *(name for name in NAMES if name in (*KERNELS, XEN))]
    others = [name for name in PROCESSORS if name != SDM.name]
    return [ATTACHED, *NAMES, *(f"{one}@{other}" for one in reflecting for other in others)]


def probe(kernel: Kernel, nested: Nested | None) -> Iterator[Probe]:
    """Every Feature once, oldest first."""
    yield _since_4_12(kernel, Feature.EMULATED_TOLD, "3.18")
    yield _since_4_12(kernel, Feature.READ_TRACKED, "4.8")
    yield _since_4_12(kernel, Feature.LINEAR_COPIED, "4.9")
    yield _with_pml(kernel, Feature.RIGHTS_OF_ENTRIES)
    yield _with_pml(kernel, Feature.ACCESSED_DIRTY)
    yield _with_pml(kernel, Feature.PML)
    yield _with_ad_disabled(kernel, Feature.WALK_AS_MADE)
    yield _with_ad_disabled(kernel, Feature.EPTP_CHECKED)
    yield _kind_of_walk(kernel)
    yield _five_levels(kernel)
    yield _member(kernel, Feature.TRIPLE_FAULT_TOLD, "kvm_x86_nested_ops", "triple_fault")
    yield _large_pages_checked(kernel)
    yield _dummy_root(kernel)
    yield _member(kernel, Feature.MISCONFIG_CLEARED, "x86_exception", "exit_qualification")
    yield _member(kernel, Feature.NMI_KEPT, "x86_exception", "exit_qualification")
    yield _linear_synthesised(kernel)
    yield _member(kernel, Feature.ONE_KIND, "kvm_x86_nested_ops", "translate_nested_gpa")
    yield _offered(
        Feature.MBEC,
        "nested.msrs.secondary_ctls_high bit 22",
        _field(nested.secondary_allowed if nested else None, "mode_based_execute"),
        nested,
    )
    yield _offered(
        Feature.ADVANCED,
        "nested.msrs.ept_caps bit 22",
        _field(nested.ept_vpid_cap if nested else None, "advanced_exit"),
        nested,
    )


def _since_4_12(kernel: Kernel, feature: Feature, release: str) -> Probe:
    """translate_nested_gpa() (3.18), d95c55687e11 (4.8), 119a9c01a592 (4.9) added no member."""
    if _has(kernel, "nested_vmx", "pml_full"):
        return Probe(feature, True, "nested_vmx.pml_full is there, and younger (4.12)")
    how = f"no nested_vmx.pml_full (4.12), and no member that tells {release} from older ones"
    return Probe(feature, None, how, assumed=True)


def _with_pml(kernel: Kernel, feature: Feature) -> Probe:
    """0780516a18f8 and ae1e2d1082ae came in one release with the emulated PML, c5f983f6e845
    (4.12)."""
    found = _has(kernel, "nested_vmx", "pml_full")
    return Probe(feature, found, _seen("nested_vmx.pml_full", found))


def _with_ad_disabled(kernel: Kernel, feature: Feature) -> Probe:
    """995f00a61958 and valid_ept_address() came in one release with kvm_mmu_page_role.ad_disabled,
    ac8d57e57344 (4.14)."""
    if _has(kernel, "nested_vmx", "msrs"):
        return Probe(feature, True, "nested_vmx.msrs is there, and younger (4.18)")
    return _member(kernel, feature, "kvm_mmu_page_role", "ad_disabled")


def _kind_of_walk(kernel: Kernel) -> Probe:
    """ddd6f0e94d31 (4.17, and some 4.14.y) left no mark."""
    feature = Feature.KIND_OF_WALK
    try:
        newer = kernel.types.struct("nested_vmx", "kvm_intel").has("msrs")
    except TypeMissing as error:
        return Probe(feature, None, error.message)
    if newer:
        return Probe(feature, True, "nested_vmx.msrs is there, and younger (4.18)")
    return Probe(feature, None, "no nested_vmx.msrs (4.18), and no member that tells 4.17")


def _five_levels(kernel: Kernel) -> Probe:
    """bb1fcc70d98f came in one series with the name kvm_mmu.get_guest_pgd, d8dd54e06348 (5.7)."""
    feature = Feature.FIVE_LEVELS
    younger = _member(kernel, feature, "kvm_x86_nested_ops", "check_events")
    if younger.present:
        return replace(younger, how=f"{younger.how}, and younger (5.8)")
    try:
        holder = _walker(kernel)
    except (TypeMissing, MemberMissing) as error:
        return Probe(feature, None, error.message)
    found = holder.has("get_guest_pgd")
    return Probe(feature, found, _seen(f"{holder.name}.get_guest_pgd", found))


def _field(word: Word | None, name: str) -> int | None:
    return None if word is None else getattr(word, name)


def _large_pages_checked(kernel: Kernel) -> Probe:
    """84ea5c09a66d came in a series with the end of kvm_mmu.translate_gpa, c59a0f57fa32 (5.17)."""
    old = _member(kernel, Feature.LARGE_PAGES_CHECKED, "kvm_mmu", "translate_gpa")
    return replace(old, present=None if old.present is None else not old.present)


def _dummy_root(kernel: Kernel) -> Probe:
    """0e3223d8d00a came in one release with kvm_vcpu_arch.governed_features, 42764413d195 (6.6),
    which has given way since (6.14)."""
    feature = Feature.DUMMY_ROOT
    younger = _member(kernel, feature, "x86_exception", "exit_qualification")
    if younger.present:
        return replace(younger, how=f"{younger.how}, and younger (6.10)")
    return _member(kernel, feature, "kvm_vcpu_arch", "governed_features")


def _linear_synthesised(kernel: Kernel) -> Probe:
    """fe0b872d7500: inject_page_fault() is told whether the fault is from hardware."""
    feature, what = Feature.LINEAR_SYNTHESISED, "kvm_mmu.inject_page_fault()"
    try:
        pointer = _walker(kernel).member("inject_page_fault").type
    except (TypeMissing, MemberMissing) as error:
        return Probe(feature, None, error.message)
    count = pointer.element().count if pointer.target else 0
    if not count:
        return Probe(feature, None, f"the types here do not tell the parameters of {what}")
    return Probe(feature, count >= WITH_FROM_HARDWARE, f"{what} has {count} parameters")


def _walker(kernel: Kernel) -> CType:
    """What holds the functions of a walk of the guest's tables: struct kvm_mmu, after 7.2 the
    struct kvm_pagewalk that its `w` points to."""
    mmu = _struct(kernel, "kvm_mmu")
    return mmu.member("w").type.element() if mmu.has("w") else mmu


def _member(kernel: Kernel, feature: Feature, struct: str, name: str) -> Probe:
    """A feature that came with a member, in one series."""
    try:
        found = _struct(kernel, struct).has(name)
    except TypeMissing as error:
        return Probe(feature, None, error.message)
    return Probe(feature, found, _seen(f"{struct}.{name}", found))


def _offered(feature: Feature, where: str, number: int | None, nested: Nested | None) -> Probe:
    if number is None:
        why = "; ".join(nested.lost) if nested else "the vCPU has no struct nested_vmx"
        return Probe(feature, None, why)
    return Probe(feature, bool(number), f"{where} is {number}")


def _seen(what: str, found: bool) -> str:
    return f"{what} is there" if found else f"no {what}"


def _has(kernel: Kernel, struct: str, name: str) -> bool:
    try:
        return kernel.types.struct(struct, "kvm_intel").has(name)
    except TypeMissing:
        return False


def _struct(kernel: Kernel, name: str) -> CType:
    return kernel.types.struct(name, "kvm")


def _name(hardware: Hardware) -> str:
    return ATTACHED if hardware is SDM else f"{ATTACHED}@{hardware.name}"
