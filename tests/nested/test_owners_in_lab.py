# SPDX-License-Identifier: GPL-2.0-or-later
"""The way back from a page of the host, against walks forward from everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.memory.budget import Budget, within
from gdb_nept.nested.at_hand import host_of_vcpu, host_of_vmm
from gdb_nept.nested.owners import owners
from gdb_nept.render.owners import owners_page
from gdb_nept.render.page import Status
from gdb_nept.render.text import draw
from tests.nested.test_lab import opened

pytestmark = pytest.mark.bochs

PAGES = (0x2000000, 0x2002000, 0x2006000, 0x2806000, 0x7FD2345000)


@pytest.mark.parametrize("page", PAGES, ids=hex)
def test_each_way_back_is_a_way_forward(snapshot: Path, page: int) -> None:
    session, chosen = opened(snapshot)
    journey = session.journey(chosen, L2Phys(page))
    assert journey.host_physical is not None
    found = owners(session, HostPhys(journey.host_physical + 0x123))
    assert found.complete
    assert found.page == journey.host_physical
    assert [one.address for one in found.l1] == [journey.ept12.address]
    assert host_of_vmm(session, chosen.owner, found.l1[0].host_virtual) == found.page
    assert page in [one.address for one in found.l2]
    for one in found.l2:
        forward = session.journey(chosen, one.address)
        assert (forward.host_physical == found.page) == (one.ept12 is not None)
        shadowed = forward.shadow.walk.address if forward.shadow else None
        assert (shadowed == found.page) == (one.ept02 is not None)


def test_pages_of_every_vm_are_found(plain_snapshot: Path) -> None:
    """Those of VMs that run no L2, by the VMM's own tables, and nothing of L2's."""
    session, _ = opened(plain_snapshot)
    seen = set()
    for vm in session.vms().vms[1:]:
        assert vm.slots is not None
        for slot in vm.slots.slots:
            for offset in range(0, min(slot.size, 1 << 20), 4096):
                address = L1Phys(slot.start + offset)
                walk = session.host_walk(vm, slot.host_virtual(address))
                if walk.physical is None:
                    continue
                found = owners(session, walk.physical)
                assert (vm.index, address) in [(one.vm, one.address) for one in found.l1]
                assert found.l2 == []
                seen.add(vm.index)
                break
    assert seen


def test_a_page_of_nobodys(plain_snapshot: Path) -> None:
    session, _ = opened(plain_snapshot)
    page = owners_page(owners(session, HostPhys(0x1000)))
    assert draw(page) == "host 0x1000: no VM has this page"
    assert page.status() is Status.NOT_FOUND


def test_what_was_not_looked_at_is_told(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    place = host_of_vcpu(session, chosen, L1Phys(0x1020000))
    with within(Budget(2048)):
        found = owners(session, place)
        assert not found.complete
        page = owners_page(found)
    assert "as far as was looked" in draw(page)
    assert "not looked at: after" in draw(page)
    assert page.status() is Status.INCOMPLETE
