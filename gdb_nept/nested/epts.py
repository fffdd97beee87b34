# SPDX-License-Identifier: GPL-2.0-or-later
"""The EPTs of a nested vCPU, and which of KVM's roots is EPT02 for an EPTP of L1's.

A root of EPT02 stands for one EPTP12 as a whole: table, levels, A/D flags, memory type
(is_root_usable() of mmu/mmu.c compares `pgd` and the role).  KVM looks for one at each VM entry of
L2's, and keeps some that are not in use in `prev_roots`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Union

from gdb_nept.address import HostPhys, L1Phys
from gdb_nept.arch.cpu import HOST, Capabilities
from gdb_nept.arch.ept import WB, Eptp
from gdb_nept.kvm.shadow import Mmu, Root, mmu
from gdb_nept.kvm.shadow_page import ShadowPage, shadow_page
from gdb_nept.kvm.spte_format import SpteFormat
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.nested.choice import Chosen
from gdb_nept.predict.kvm import KVM_EPTP
from gdb_nept.target.ports import Kernel


class Which(Enum):
    """The EPTs of a nested vCPU, by the name in output: L1's, KVM's shadow of it, KVM's for L1."""

    L1 = "EPT12"
    SHADOW = "EPT02"
    HOST = "EPT01"


@dataclass(frozen=True)
class Ept:
    """One EPT: EPT12 lies in L1's memory, KVM's own two in the host's.  `caveats` say why EPT12 may
    be another than L1 means."""

    which: Which
    eptp: Eptp
    cpu: Capabilities
    memory: Union[PhysicalMemory[L1Phys], PhysicalMemory[HostPhys]]
    caveats: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """Why VM entry refuses the EPTP of an EPT12, so that no L2 runs with it; '' otherwise."""
        return self.eptp.problem(self.cpu, KVM_EPTP) if self.which is Which.L1 else ""


@dataclass(frozen=True)
class ShadowRoot:
    """The EPTP that KVM gives the processor for EPT02, None where `missing` says why there is no
    EPT02; `note` is what the reader should know of it."""

    eptp: Eptp | None
    missing: str = ""
    note: str = ""


def ept02_cpu(l1: Capabilities, form: SpteFormat) -> Capabilities:
    """By what the processor reads EPT02: with mode-based execute control if L1 has it in force for
    L2, and its KVM shadows bit 10 for that (prepare_vmcs02_early(), 7.2)."""
    return replace(HOST, mbec=l1.mbec and form.keeps_user_execute)


def own_eptp(found: Mmu, root: HostPhys) -> Eptp:
    """The EPTP that KVM gives the processor for one of its own EPTs: construct_eptp(), vmx.c."""
    return _built(root, found.level, not found.role.number("ad_disabled"))


def _built(root: HostPhys, levels: int, accessed_dirty: bool) -> Eptp:
    word = Eptp.build(
        address=root, memory_type=WB, walk_length=levels - 1, accessed_dirty=int(accessed_dirty)
    )
    return Eptp(word)


def shadow_root(kernel: Kernel, chosen: Chosen, eptp: Eptp) -> ShadowRoot:
    """EPT02 of `eptp`: the root in use, or one that waits for L1 to come back to this EPTP."""
    found = mmu(chosen.vcpu.value, "guest_mmu")
    if found.root.hpa is not None and _stands_for(kernel, chosen, found.root, eptp):
        return ShadowRoot(own_eptp(found, found.root.hpa))
    for waiting in found.prev_roots:
        if waiting.hpa is not None and _usable(kernel, chosen, waiting, eptp):
            root = _built(waiting.hpa, eptp.levels, bool(eptp.accessed_dirty))
            note = (
                f"EPT02 of this EPTP waits in prev_roots, and L2 ran last with {_named(found.root)}"
            )
            return ShadowRoot(root, note=note)
    if found.root.hpa is None:
        return ShadowRoot(None, f"there is no EPT02 now: {found.why_no_root}")
    return ShadowRoot(None, f"there is no EPT02 of this EPTP yet: {another(found, eptp)}")


def another(found: Mmu, eptp: Eptp) -> str:
    """That the EPT02 in use is of another EPTP, or ''."""
    if found.root.hpa is None or found.root.pgd in (None, eptp.value):
        return ""
    return (
        f"the one in use was built for another EPTP ({_named(found.root)}), not for "
        f"{eptp.value:#x}, with which L1 has not entered L2 since; KVM looks for its root at the "
        "next VM entry (kvm_mmu_new_pgd())"
    )


def _named(root: Root) -> str:
    return "an EPTP that KVM has not kept" if root.pgd is None else f"{root.pgd:#x}"


def _stands_for(kernel: Kernel, chosen: Chosen, root: Root, eptp: Eptp) -> bool:
    """Whether KVM built it for this EPTP; where it keeps no `pgd`, the root's own page tells."""
    if root.pgd is not None:
        return root.pgd == eptp.value
    page = _page(kernel, chosen, root)
    return page is None or _shadows(page, eptp)


def _usable(kernel: Kernel, chosen: Chosen, root: Root, eptp: Eptp) -> bool:
    """is_root_usable(): the same EPTP, and a page that is still valid and has the role."""
    page = _page(kernel, chosen, root)
    if page is not None and (page.role.number("invalid") or not _shadows(page, eptp)):
        return False
    return root.pgd == eptp.value if root.pgd is not None else page is not None


def _shadows(page: ShadowPage, eptp: Eptp) -> bool:
    disabled = bool(page.role.number("ad_disabled"))
    return (
        not page.direct
        and page.gfn_address == eptp.address
        and page.level == eptp.levels
        and disabled is not bool(eptp.accessed_dirty)
    )


def _page(kernel: Kernel, chosen: Chosen, root: Root) -> ShadowPage | None:
    if root.hpa is None:
        return None
    page = shadow_page(kernel, chosen.owner.value, root.hpa)
    return page if isinstance(page, ShadowPage) else None
