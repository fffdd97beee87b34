# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux L2 without EPT: in an L1 that uses none, and on an L0 that has none.

L1's own kernel is the witness: from inside its memory L2's real CR3 and memslots are known, and so
which L1 physical page each of L2's linear addresses has.  Boots take minutes: `scripts/test
--linux-l2`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import linux_l1
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions
from bochs_lab.progress import Silent

from gdb_nept.address import HostPhys, HostVirt, L1Phys, L2Virt
from gdb_nept.errors import NoGuest
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.agreement import Agreement
from gdb_nept.nested.epts import Which
from gdb_nept.nested.nesting import Nesting, nestings
from gdb_nept.nested.session import Session
from gdb_nept.nested.virtual import virtual_walk
from gdb_nept.target.linux import attach
from gdb_nept.target.pagetable import PageTables
from tests.conftest import kernel_cache
from tests.lab.inside import inside

pytestmark = [pytest.mark.linux_l2, pytest.mark.bochs]

WAYS = {
    "lab.l1kvm=ept=0": Nesting.SHADOW_ON_EPT,
    "kvm_intel.ept=0": Nesting.SHADOW_ON_SHADOW,
}
SYMBOLS = 2000


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[Path, Nesting]:
    """The snapshot of the machine that is booted so, and what it must be called."""
    word = str(request.param)
    return lab.ensure(linux_l1.with_linux_l2(LabOptions(append=word), Silent())), WAYS[word]


def test_l2_is_walked_whoever_shadows_it(way: tuple[Path, Nesting]) -> None:
    snapshot, wanted = way
    raw: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    outer = Session(attach(raw, ram=raw.size, cache=kernel_cache()))
    l1 = outer.pick(None, None)
    assert nestings(outer, outer.vms()) == {(l1.vm, l1.place): wanted}
    with pytest.raises(NoGuest, match="without EPT"):
        outer.ept(l1, Which.L1)

    inner = inside(outer, l1)
    l2 = inner.pick(None, None)
    memory: Any = inner.l1_memory(l2)  # what L1 takes for its guest's memory is L2's
    cr3 = l2.vcpu.register("cr3")
    assert cr3 is not None
    own = PageTables(memory, HostPhys(cr3.number & ~0xFFF), 4)
    symbols: Any = inside(inner, l2).kernel.symbols
    places = sorted({address for address in symbols.vmlinux.addresses if address >> 63})
    seen = dict.fromkeys(Agreement, 0)
    for place in random.Random(12).sample(places, SYMBOLS):
        found = virtual_walk(outer, l1, L2Virt(place))
        if found.landing is None:
            continue  # L1's shadow has no entry for it yet
        gpa = own.walk(HostVirt(place)).physical
        assert gpa is not None, hex(place)
        assert found.landing.address == memory.host_physical(L1Phys(gpa)), hex(place)
        seen[found.landing.agreement] += 1
    assert seen[Agreement.STALE] == 0
    assert seen[Agreement.AGREE] > 20, seen
