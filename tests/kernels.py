# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of the lab's kernels from their source, for tests whose answer depends on it.

The program itself probes members of types and symbols; here the release decides, so that a wrong
probe is found out.  Files are in arch/x86/kvm.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from bochs_lab.emulator import INSTALLED

from gdb_nept.predict.kvm import KERNELS, Feature

#: Offered to L1 only by a processor that has it: none of Bochs 2.7's, and 3.0's from Skylake-X on.
OF_PROCESSOR = frozenset({Feature.MBEC, Feature.ADVANCED})


@dataclass(frozen=True)
class Facts:
    since: tuple[int, ...]  # the first release that they are true of
    model: str  # of predict.model.KERNELS
    guest_mode_counted: bool  # kvm_vcpu_stat.guest_mode, 5.14 (d5a0483f9f32)
    tdp_mmu: bool  # on by default: mmu/tdp_mmu.c, module_param_named(tdp_mmu, ...)
    frozen: int | None  # mmu/spte.h, REMOVED_SPTE or FROZEN_SPTE, suppress #VE included
    not_offered: tuple[str, ...] = ()  # fields that L1 may not access on a Skylake-X
    withheld: frozenset[Feature] = OF_PROCESSOR  # by the processor
    # mmu/spte.c, make_spte(): a page of EPT02 that stays writable for a fault of L2's is made dirty
    dirty_anew: bool = True
    # mmu/spte.c, kvm_mmu_set_ept_masks(): pages of EPT02 have flags with EPTP bit 6 clear, too
    flags_always: bool = False

    @property
    def features(self) -> frozenset[Feature]:
        return KERNELS[self.model] - self.withheld


SUPPRESS_VE = 1 << 63
#: vmx/vmcs12.c, cpu_has_vmcs12_field(): of ENCLS exiting, posted interrupts and CET.
LACKING_ON_TIGER_LAKE = ("encls_exiting_bitmap",)
LACKING_ON_SKYLAKE = (
    *("posted_intr_desc_addr", "encls_exiting_bitmap"),
    *("host_s_cet", "host_ssp", "host_ssp_tbl", "guest_s_cet", "guest_ssp", "guest_ssp_tbl"),
    "posted_intr_nv",
)
KNOWN = (
    Facts((5, 10), "kvm-5.10", guest_mode_counted=False, tdp_mmu=False, frozen=None),
    Facts((6, 1), "kvm-6.1", True, tdp_mmu=True, frozen=0x5A0, dirty_anew=False),
    Facts((6, 12), "kvm-6.10", True, True, SUPPRESS_VE | 0x5A0, dirty_anew=False),
    Facts((6, 12, 117), "kvm-6.12.117", True, True, SUPPRESS_VE | 0x5A0, dirty_anew=False),
    Facts(
        (7, 2), "kvm-7.2", True, True, SUPPRESS_VE | 0x1A0, LACKING_ON_SKYLAKE, flags_always=True
    ),
)


def facts_of(snapshot: Path) -> Facts:
    """Of the kernel of a snapshot, on its processor."""
    meta = json.loads((snapshot / "meta.json").read_text())
    known = facts_of_release(meta["release"])
    if meta["options"]["bochs"] == INSTALLED:
        return known
    if known.not_offered and meta["options"]["cpu"] == "tigerlake":
        known = replace(known, not_offered=LACKING_ON_TIGER_LAKE)
    return replace(known, withheld=frozenset())


def kvm_on_bochs(snapshot: Path) -> str:
    """The attached KVM on the processor of a snapshot, as a model."""
    meta = json.loads((snapshot / "meta.json").read_text())
    return f"kvm@bochs-{meta['options']['bochs']}"


def facts_of_release(release: str) -> Facts:
    """'6.12.117+deb12-cloud-amd64'."""
    numbers = tuple(map(int, re.findall(r"\d+", release.split("-")[0].split("+")[0])))
    return [each for each in KNOWN if each.since <= numbers][-1]
