# SPDX-License-Identifier: GPL-2.0-or-later
"""An access to L2 physical memory, and the controls in force when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities

MBEC, PML = "mode-based execute control", "page-modification logging"


class Plain(Enum):
    """Members hash by what they are: Enum's own hash asks for the name, in Python, each time that a
    rule is looked up."""

    __hash__ = object.__hash__


class Op(Plain):
    """What the access does; the value is the name in requests and output."""

    READ = "read"
    WRITE = "write"
    FETCH = "fetch"
    RMW = "rmw"  # a read-modify-write instruction


class Stage(Plain):
    """What the guest-physical address is to the processor."""

    FINAL = "final"  # the translation of a linear address
    WALK = "walk"  # a guest paging-structure entry, read or updated while translating one
    PDPTE = "pdpte"  # the PDPTE registers' load by MOV to CR, under PAE paging


@dataclass(frozen=True)
class Access:
    """`user` is the mode of the linear address (U/S of the guest's entries), not the CPL.

    What is None is not known: the bits that depend on it are then outside the comparison mask.
    Of `raw` a hypervisor's model uses the bits that it passes on to L1 as they are.
    """

    gpa: L2Phys
    op: Op = Op.READ
    user: bool = False
    stage: Stage = Stage.FINAL
    gla: L2Virt | None = None
    linear_writable: bool | None = None  # R/W of the guest's own paging
    linear_execute_disable: bool | None = None
    shadow_stack: bool = False
    paging_verified: bool = True  # every guest table page has bit 58 in its EPT leaf
    asynchronous: bool = False  # with no linear address, if `gla` is None: PT output, PEBS
    event_delivery: bool = False  # IDT-vectoring information is valid
    nmi_unblocking: bool = False  # part of IRET, with NMIs blocked before it
    unpaged: bool = False  # made with CR0.PG clear: the linear address is the guest-physical one
    real_mode: bool = False  # made with CR0.PE clear
    emulated: bool = False  # made by L0's emulator on behalf of L2, not by the processor
    raw: int | None = None  # the processor's own qualification on leaving L2 for L0, if it was seen


@dataclass(frozen=True)
class Apic:
    """What is in force where APIC accesses are virtualized; `address` is that of the APIC-access
    page."""

    address: int
    tpr_shadow: bool = False
    registers: bool = False  # APIC-register virtualization
    interrupt_delivery: bool = False  # virtual-interrupt delivery


@dataclass(frozen=True)
class Controls:
    """VM-execution controls beyond those that give entries their meaning (`Capabilities`)."""

    pml: bool = False
    pml_index: int = 511
    ve: bool = False  # EPT-violation #VE
    ve_busy: bool = False  # the word at offset 4 of the #VE information area is not 0
    nmi_exiting: bool = False
    virtual_nmis: bool = False
    sppt_pointer: int | None = None  # set if sub-page write permissions are in force
    apic: Apic | None = None  # set if APIC accesses are virtualized


def switched_on(cpu: Capabilities, controls: Controls) -> tuple[str, ...]:
    """The controls about EPT that L1 has switched on, and that a hypervisor may not offer it."""
    asked = {
        MBEC: cpu.mbec,
        PML: controls.pml,
        "EPT-violation #VE": controls.ve,
        "sub-page write permissions": cpu.sub_page or controls.sppt_pointer is not None,
        "EPT paging-write control": cpu.paging_write,
        "guest-paging verification": cpu.verify_guest_paging,
    }
    return tuple(name for name, on in asked.items() if on)
