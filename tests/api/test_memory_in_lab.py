# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory and the way back from it, by the API: against nept-x, nept-who and the raw image."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gdb_nept
from gdb_nept import HostPhys, HostVirt, L1Phys, L2Phys, L2Virt, Space, Unread
from gdb_nept.__main__ import main
from gdb_nept.errors import NoMemory, UnreadKind
from gdb_nept.memory import dump as dump_module
from gdb_nept.memory.dump import Dump
from gdb_nept.memory.raw import RawMemory
from gdb_nept.render.text import rights
from tests.overlay import Filtered, opened, tables

pytestmark = pytest.mark.bochs

ASKED = 0x2000000  # L2 linear and physical
SPACES = {
    Space.L2_LINEAR: "",
    Space.L2_PHYSICAL: "--l2-physical",
    Space.L1_PHYSICAL: "--l1",
    Space.HOST_PHYSICAL: "--host",
}


@pytest.fixture
def memory(plain_snapshot: Path) -> Path:
    return plain_snapshot / "memory.raw"


@pytest.fixture
def target(memory: Path) -> Iterator[gdb_nept.Target]:
    with gdb_nept.open_dump(memory) as found:
        yield found


def command(capsys: pytest.CaptureFixture[str], memory: Path, line: str) -> Any:
    main(["--dump", str(memory), *shlex.split(line), "--json"])
    return json.loads(capsys.readouterr().out)


def raw(memory: Path, place: int, size: int) -> bytes:
    with memory.open("rb") as file:
        file.seek(place)
        return file.read(size)


@pytest.mark.parametrize("space", Space)
def test_bytes_are_those_of_x_and_of_the_image(
    target: gdb_nept.Target, memory: Path, capsys: pytest.CaptureFixture[str], space: Space
) -> None:
    vcpu = target.vcpu()
    walked = vcpu.walk(L2Phys(ASKED))
    assert walked.l1 is not None
    assert walked.host is not None
    address = {Space.L1_PHYSICAL: walked.l1, Space.HOST_PHYSICAL: walked.host}.get(space, ASKED)
    found = vcpu.examine(space, address, 4096)
    assert found.ends is None
    assert found.data == raw(memory, walked.host, 4096)
    shown = command(capsys, memory, f"x /512xg {SPACES[space]} {address:#x}")
    assert shown["bytes"] == found.data.hex()
    by_space = {
        Space.L2_LINEAR: vcpu.read_linear(L2Virt(address), 64),
        Space.L2_PHYSICAL: vcpu.l2_memory.read(L2Phys(address), 64),
        Space.L1_PHYSICAL: vcpu.memory.read(L1Phys(address), 64),
        Space.HOST_PHYSICAL: target.read(HostPhys(address), 64),
    }
    assert by_space[space] == found.data[:64]


def test_where_it_breaks_off(target: gdb_nept.Target) -> None:
    vcpu = target.vcpu()
    some = vcpu.examine(Space.L2_PHYSICAL, 0x2011FF0, 64)  # 0x2012000 is misconfigured
    assert len(some.data) == 16
    assert some.ends is not None
    assert some.ends.address == 0x2012000
    assert "misconfigured" in some.ends.why
    for unread in (
        vcpu.read_linear(L2Virt(0x2011FF0), 64),
        vcpu.read_linear(L2Virt(0x7000_0000_0000), 8),
        target.read(HostPhys(1 << 45), 8),
        vcpu.memory.read(L1Phys(1 << 45), 8),
        vcpu.read_linear(L2Virt(1 << 62), 8),  # not canonical
    ):
        assert isinstance(unread, Unread)
        assert unread.why


def test_the_way_back_is_whos(
    target: gdb_nept.Target, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vm = next(target.vms())
    l1 = L1Phys(0x1020000)
    host = vm.host_of(l1)
    slot = next(one for one in vm.slots if one.holds(l1))
    virtual = slot.host_virtual(l1)
    assert vm.host_of_virtual(virtual) == host
    assert target.vcpu().host_of(L2Virt(ASKED)) == host
    found = target.owners(host)
    assert found == vm.owners(l1) == vm.owners_of_virtual(virtual)
    shown = command(capsys, memory, f"who {host:#x}")
    assert [hex(one.address) for one in found.l1] == [one["address"] for one in shown["l1"]]
    assert [
        (hex(one.address), one.ept12 and rights(one.ept12), one.ept02 and rights(one.ept02))
        for one in found.l2
    ] == [(one["address"], one["ept12"], one["ept02"]) for one in shown["l2"]]
    assert (found.complete, found.unread) == (True, False)
    assert ASKED in {one.address for one in found.l2}
    for page in found.l2:  # each leads there forward, too
        walked = target.vcpu().walk(page.address)
        assert HostPhys((walked.host or 0) & ~0xFFF) == host
    assert not target.owners(host, limit=10).complete
    with pytest.raises(NoMemory):
        vm.host_of(L1Phys(1 << 45))
    with pytest.raises(NoMemory):
        vm.host_of_virtual(HostVirt(0x1000))


def test_what_is_left_out_has_its_kind(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Filtered(RawMemory(memory))
    held.without = set(tables(*opened(memory.parent)))
    monkeypatch.setattr(dump_module, "open_dump", lambda *_: Dump(memory, "raw image", held))
    with gdb_nept.open_dump(memory) as target:
        vcpu = target.vcpu()
        for unread in (
            vcpu.l2_memory.read(L2Phys(ASKED), 8),
            vcpu.read_linear(L2Virt(ASKED), 8),
            vcpu.memory.read(L1Phys(vcpu.ept12.eptp.address), 8),
            target.read(HostPhys(4096 * min(held.without)), 8),
        ):
            assert isinstance(unread, Unread)
            assert unread.kind is UnreadKind.FILTERED
        for space in (Space.L2_LINEAR, Space.L2_PHYSICAL):
            ends = vcpu.examine(space, ASKED, 8).ends
            assert ends is not None
            assert ends.kind is UnreadKind.FILTERED
        assert target.owners(HostPhys(0x6020000)).unread
