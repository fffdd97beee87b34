# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the tables of KVM's shadow are those of the EPT12 entries that they stand for.

FNAME(fetch)() of arch/x86/kvm/mmu/paging_tmpl.h links, below each of its entries, the shadow of the
table that EPT12's entry names (`gfn`, one level down, `direct` 0), and below a large page of EPT12
that the host has in small ones a direct page for that part of it.  A child that is already there
is taken for the right one: kvm_mmu_get_child_sp() compares its gfn and role since 81ccda30b4e8 and
0cb2af2ea66a, and nothing did before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdb_nept.arch.bits import ALL_BITS, Bits
from gdb_nept.arch.ept import LEVEL_NAMES, EptEntry, page_size
from gdb_nept.kvm.shadow_page import ShadowPage
from gdb_nept.nested.agreement import Agreement, Blame, Fault, Verdict, blamed
from gdb_nept.nested.journey import Journey

#: asm/kvm_host.h: role.access, by its number of bits: ACC_EXEC 1, ACC_WRITE 2, ACC_USER 4 (read);
#: since 7.2 ACC_READ 1, ACC_WRITE 2, ACC_USER_EXEC 4, ACC_EXEC 8.
ACC_BITS = {
    3: ((EptEntry.execute, 1), (EptEntry.write, 2), (EptEntry.read, 4)),
    4: (
        (EptEntry.read, 1),
        (EptEntry.write, 2),
        (EptEntry.user_execute, 4),
        (EptEntry.execute, 8),
    ),
}
CHILD = "kvm_mmu_get_child_sp() should have replaced it (as it does since 81ccda30b4e8)"
ROOT = "is_root_usable() and mmu_alloc_shadow_roots() take no such root for this EPTP"
UNLINKED = "kvm_mmu_prepare_zap_page() should have taken it out of the tables above"
FREED = (
    "kvm_mmu_free_obsolete_roots() (kvm_mmu_unload() before 5.18) should have dropped it, and "
    "is_page_fault_stale() should not fill it"
)


@dataclass(frozen=True)
class Expected:
    """What a table of KVM's on the way must stand for; `accesses` are the entries whose rights may
    be in its role: those above it, or (before 5.13, b1bd5cba3306) all that name tables."""

    level: int
    address: int
    direct: bool
    accesses: tuple[EptEntry, ...] = ()


def misfit(journey: Journey) -> Verdict | None:
    """The first table of KVM's shadow that cannot be the one for this address, as a verdict."""
    for number, (page, expected) in enumerate(_pairs(journey)):
        wrong = difference(page, expected)
        if wrong:
            name = f"the table of {LEVEL_NAMES[expected.level]}s" if number else "the root"
            return Verdict(
                Agreement.BROKEN,
                f"KVM's shadow is wrong: {name} {wrong}",
                Fault.KVM,
                CHILD if number else ROOT,
            )
        if page.obsolete:
            return _obsolete(journey, page, number == 0)
    return None


def narrowed(journey: Journey) -> Blame | None:
    """A table of the shadow whose role has other rights than the entries of EPT12 above it; None
    if all have theirs.  Those of direct pages are not compared: validate_direct_spte() replaces
    one at the next fault, after L1's dirty flag has changed."""
    for page, expected in _pairs(journey):
        flags = ACC_BITS.get(page.role.size("access"))
        if flags is None or page.direct or not expected.accesses:
            continue
        role = page.role.number("access")
        if role in (_access(entry, flags) for entry in expected.accesses):
            continue
        return Blame(
            Fault.KVM,
            f"the role of KVM's table of {LEVEL_NAMES[expected.level]}s has access {role:#x}, "
            f"and EPT12's entries above it make {_access(expected.accesses[0], flags):#x}",
            CHILD,
        )
    return None


def _access(entry: EptEntry, flags: tuple[tuple[Bits, int], ...]) -> int:
    """FNAME(gpte_access)(): rights as ACC_* flags."""
    return sum(flag for field, flag in flags if entry.value & field.mask)


def _pairs(journey: Journey) -> Iterator[tuple[ShadowPage, Expected]]:
    """Each table of the shadow that KVM keeps a kvm_mmu_page of, with what it must be."""
    if journey.shadow is None:
        return
    for page, expected in zip(journey.shadow.pages, _expected(journey)):
        if isinstance(page, ShadowPage):
            yield page, expected


def _expected(journey: Journey) -> Iterator[Expected]:
    """From the root on, as far as EPT12 goes."""
    levels = journey.eptp.levels
    yield Expected(levels, journey.eptp.address, False)
    steps = journey.ept12.steps
    tables = [step.entry.value for step in steps if not step.leaf]
    whole = _together(tables)
    for number, step in enumerate(steps, 1):
        if journey.ept12.stop is not None and journey.ept12.stop.level == step.level:
            return  # this entry names no table
        if step.leaf:
            yield from _direct(journey, step.level)
            return
        above = _together(tables[:number])
        yield Expected(step.level - 1, step.entry.address, False, (above, whole))


def _direct(journey: Journey, level: int) -> Iterator[Expected]:
    """Below a page of EPT12 at `level`, which the host has in smaller ones."""
    address = journey.ept12.address
    if address is None:
        return
    for above in range(level, 1, -1):
        yield Expected(above - 1, address & ~(page_size(above) - 1), True)


def _together(entries: list[int]) -> EptEntry:
    value = ALL_BITS
    for entry in entries:
        value &= entry
    return EptEntry(value)


def difference(page: ShadowPage, expected: Expected) -> str:
    """What the page is instead, or ''."""
    if page.role.has("guest_mode") and not page.guest_mode:
        return "was not built for L2 (role.guest_mode is 0)"
    if page.direct is not expected.direct:
        if page.direct:
            return (
                "is a direct page (role.direct is 1), and EPT12 has a table there, at L1 physical "
                f"{expected.address:#x}"
            )
        return (
            f"shadows a table of L1's at {page.gfn_address:#x} (role.direct is 0), and EPT12 has a "
            "large page there"
        )
    if page.level != expected.level:
        return f"is of level {page.level} by its role, and stands at level {expected.level}"
    if page.gfn_address != expected.address:
        what = "maps from" if page.direct else "shadows the table at"
        return f"{what} L1 physical {page.gfn_address:#x}, and EPT12 leads to {expected.address:#x}"
    return ""


def without_dropped_root(journey: Journey) -> Journey:
    """L2 will not run with a root that KVM is asked to drop: what hangs on it says nothing, and
    EPT12 and the memslots decide, as where there is no root yet."""
    pages = journey.shadow.pages if journey.shadow else ()
    root = pages[0] if pages else None
    if not isinstance(root, ShadowPage) or not root.obsolete or not journey.root_freed:
        return journey
    missing = (
        f"the root of KVM's shadow is obsolete ({_mark(root)}), and KVM is asked to drop it "
        "before L2 runs again"
    )
    return replace(journey, shadow=None, shadow_missing=missing)


def _mark(page: ShadowPage) -> str:
    return "role.invalid is 1" if page.role.number("invalid") else "its mmu_valid_gen is old"


def _obsolete(journey: Journey, page: ShadowPage, root: bool) -> Verdict:
    """role.invalid, or an mmu_valid_gen that is not the VM's: is_obsolete_sp()."""
    mark = _mark(page)
    if not root:
        how = f"{mark}, and an entry above still leads to it"
        what = f"KVM's shadow is wrong: the table of {LEVEL_NAMES[page.level]}s is obsolete"
        return blamed(Agreement.BROKEN, what, Blame(Fault.KVM, how, UNLINKED))
    asked = "no request to drop it is pending" if journey.root_freed is False else ""
    how = f"{mark}, and {asked or 'whether a request to drop it is pending is not known'}"
    fault = Fault.UNKNOWN if journey.root_freed is None else Fault.KVM
    what = "KVM's shadow is wrong: its root is obsolete"
    return blamed(Agreement.BROKEN, what, Blame(fault, how, FREED))
