# SPDX-License-Identifier: GPL-2.0-or-later
"""vmcs12 pages by what is in them, current or not: of any memory, with no symbols and no types.

A page that begins with KVM's revision identifier (arch/x86/kvm/vmx/vmcs12.h VMCS12_REVISION) is a
VMXON region, a vmcs12, or KVM's own copy of one.  Where L0 is itself a guest of KVM, the VMCSs that
it runs its VMs with are vmcs12s too, and are found with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gdb_nept.address import HostPhys
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.controls import PrimaryControls, SecondaryControls
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import WIDEST, Eptp
from gdb_nept.arch.exits import EXIT_REASONS, ExitReason
from gdb_nept.errors import NeptError
from gdb_nept.kvm.vmcs12 import SHADOW_INDICATOR, VMCS12_SIZE
from gdb_nept.kvm.vmcs12_layout import Layout, built_in, by_content, number_at
from gdb_nept.memory.budget import Progress
from gdb_nept.memory.reader import PAGE_SIZE, PhysicalMemory
from gdb_nept.target.scan import readable

PIECE = 1 << 20
WORDS = PAGE_SIZE // 4
LAST_ACTIVITY = 3  # wait-for-SIPI
NO_LINK = (1 << 64) - 1
#: Of any processor: which EPTPs one of them would take.
ANY = Capabilities(WIDEST, EptVpidCap(ALL_BITS))


@dataclass(frozen=True)
class Vmcs12Page:
    """A page that begins as a vmcs12.  `layout` is None where no known layout makes sense of it.
    `doubts` say what no vmcs12 that L1 has entered would hold."""

    place: HostPhys
    data: bytes
    layout: Layout | None
    doubts: tuple[str, ...]

    def number(self, name: str) -> int:
        """A field by KVM's name; 0 if it has none, or its layout is not known."""
        return 0 if self.layout is None else number_at(self.layout, self.data, name)

    @property
    def shadow(self) -> bool:
        """Whether L1 made it a shadow VMCS (SDM vol. 3, 27.2)."""
        return bool(int.from_bytes(self.data[0:4], "little") & SHADOW_INDICATOR)

    @property
    def launched(self) -> bool:
        return bool(int.from_bytes(self.data[8:12], "little"))

    @property
    def empty(self) -> bool:
        """Nothing but a revision identifier: a VMXON region, or a VMCS before its first VMWRITE."""
        return not any(self.data[4:])

    @property
    def eptp(self) -> Eptp | None:
        """EPTP12, if the controls use EPT."""
        primary = PrimaryControls(self.number("cpu_based_vm_exec_control"))
        secondary = SecondaryControls(self.number("secondary_vm_exec_control"))
        if not (primary.secondary_controls and secondary.ept):
            return None
        return Eptp(self.number("ept_pointer"))


def vmcs12_pages(
    memory: PhysicalMemory[HostPhys],
    ranges: Iterable[range],
    progress: Progress | None = None,
    unread: list[range] | None = None,
) -> Iterator[Vmcs12Page]:
    """Every such page of `ranges`, by address.  What cannot be read is passed over, and put into
    `unread`."""
    wanted = {built_in().revision, built_in().revision | SHADOW_INDICATOR}
    whole = [_whole_pages(each) for each in ranges]
    total, done = sum(each.stop - each.start for each in whole), 0
    for piece in _pieces(whole):
        place = piece.start
        for start, data in readable(memory, piece.start, len(piece)):
            if unread is not None and start > place:
                unread.append(range(place, start))
            place = start + len(data)
            heads = memoryview(data).cast("I")[::WORDS].tolist()
            for number, head in enumerate(heads):
                if head in wanted:
                    at = number * PAGE_SIZE
                    yield page_of(HostPhys(start + at), data[at : at + VMCS12_SIZE])
        if unread is not None and place < piece.stop:
            unread.append(range(place, piece.stop))
        done += len(piece)
        if progress:
            progress("looking for vmcs12 pages", done, total)


def _pieces(ranges: Iterable[range]) -> Iterator[range]:
    for each in ranges:
        for place in range(each.start, each.stop, PIECE):
            yield range(place, min(place + PIECE, each.stop))


def _whole_pages(each: range) -> range:
    return range(each.start & -PAGE_SIZE, (each.stop + PAGE_SIZE - 1) & -PAGE_SIZE)


def page_of(place: HostPhys, data: bytes) -> Vmcs12Page:
    """The page whose bytes are `data`."""
    try:
        layout: Layout | None = by_content(data)
    except NeptError:
        layout = None
    bare = Vmcs12Page(place, data, layout, ())
    return Vmcs12Page(place, data, layout, tuple(_doubts(bare)))


def _doubts(page: Vmcs12Page) -> Iterator[str]:
    """What VM entry would refuse whatever the processor, or no exit leaves (SDM vol. 3, chapters 29
    and 30); only what is wrong in every layout where there is a choice."""
    if page.empty:
        return
    if page.layout is None:
        yield "its controls lack bits that are always 1"
        return
    eptp = page.eptp
    if eptp is not None and (problem := eptp.problem(ANY)):
        yield f"EPTP: {problem}"
    link = page.number("vmcs_link_pointer")
    if link != NO_LINK and link % PAGE_SIZE:
        yield f"VMCS link pointer {link:#x} is no page"
    if page.number("guest_activity_state") > LAST_ACTIVITY:
        yield f"activity state {page.number('guest_activity_state'):#x}"
    if ExitReason(page.number("vm_exit_reason")).basic not in EXIT_REASONS:
        yield f"exit reason {page.number('vm_exit_reason'):#x}"
    for name in ("host_rip", "host_cr3"):
        if not page.number(name):
            yield f"{name} is 0"
