# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernels are known to have got wrong, each as a model that gets it wrong in that way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from gdb_nept.judge.mistakes import mistakes
from gdb_nept.judge.slips import Slip
from gdb_nept.predict.case import BOCHS, SDM
from gdb_nept.predict.kvm import KERNELS, Feature, Kvm
from gdb_nept.predict.model import Model, NeptV2, Processor, Reflecting


@dataclass(frozen=True)
class Suspect:
    """A model that stands for a known bug: `says` names it, or `release` the Linux that had it.
    `later` is a rule that the model asked has not, and this one has.  `unless` is the name of a
    model that says the same better, where that fits, too.  `page_alone`: by it the guest-physical
    address has lost its offset.  `itself`: KVM with every rule, where a processor was asked."""

    model: Model
    says: str = ""
    release: str = ""
    later: Feature | None = None
    unless: str = ""
    page_alone: bool = False
    itself: bool = False


KVM_ITSELF = "KVM by its own rules, with none missing (choose model kvm, or a release)"


@lru_cache(maxsize=8)
def suspects_for(asked: Model) -> tuple[Suspect, ...]:
    """Models that stand for what kernels are known to have got wrong: `asked` with one rule taken
    away or added, the KVM of each release, the series of 2012, and each single mistake."""
    return tuple(_suspects(asked))


@lru_cache(maxsize=8)
def models_for(asked: Model) -> Mapping[str, Model]:
    """`asked`, the SDM's processor, and the suspects, by name."""
    models = (asked, Processor(SDM), *(each.model for each in suspects_for(asked)))
    return {model.name: model for model in models}


def _suspects(asked: Model) -> Iterator[Suspect]:
    base = _as_kvm(asked)
    if isinstance(asked, Processor):
        yield Suspect(Reflecting(base), KVM_ITSELF, itself=True)
    for feature in Feature:
        had = feature in base
        name = f"{base.name}{'-' if had else '+'}{feature.name}"
        verb = "does not have this rule" if had else "already has this rule"
        changed = Kvm(name, base.features ^ {feature}, base.hardware)
        says = f"a KVM that {verb}: {feature.value}"
        yield Suspect(Reflecting(changed), says, later=None if had else feature)
    for release, features in KERNELS.items():
        whole = Kvm(f"{release} as a whole", features, base.hardware)
        yield Suspect(Reflecting(whole), release=release.partition("-")[2])
    if base.hardware is SDM:
        on_bochs = replace(base, name=f"{base.name} on {BOCHS.name}", hardware=BOCHS)
        says = f"the processor that L0 runs on is {BOCHS.name} (choose model kvm@{BOCHS.name})"
        yield Suspect(Reflecting(on_bochs), says)
    v2 = NeptV2()
    says = f"the nested EPT series of 2012 ({v2.name}), which injects a page fault's error code"
    yield Suspect(v2, says)
    for each in mistakes(asked, Reflecting(base)):
        unless = v2.name if each.says == Slip.ERROR_CODE else ""
        lost = each.says == Slip.OFFSET_LOST
        yield Suspect(each, each.says, unless=unless, page_alone=lost)


def _as_kvm(asked: Model) -> Kvm:
    """A processor is what a KVM with every rule imitates."""
    if isinstance(asked, Reflecting):
        return asked.kvm
    hardware = asked.hardware if isinstance(asked, Processor) else SDM
    return Kvm(f"a KVM like {asked.name}", frozenset(Feature), hardware)
