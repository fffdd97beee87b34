# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of L1 and of L2 as files: opened by libkdumpfile and gdb, and held against what the
snapshot says page by page."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import gdb_nept
from gdb_nept.__main__ import main
from gdb_nept.address import HostPhys, KernelVirt, L1Phys, L2Phys
from gdb_nept.errors import MemoryUnreadable, UnreadKind
from gdb_nept.memory.budget import Budget
from gdb_nept.memory.dump import open_dump
from gdb_nept.memory.elf_dump import read_headers
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.export import Exported, export
from gdb_nept.nested.pieces import Part, Piece
from gdb_nept.render.page import Status
from tests import tools
from tests.schemas import hold

pytestmark = [pytest.mark.bochs, pytest.mark.kdumpfile]

PAGE = 4096
BATCH = 1 << 20
DIRECT_MAP = 0xFFFF888000000000


def test_l1s_memory_is_in_the_file_and_no_other(snapshot: Path, tmp_path: Path) -> None:
    """Page by page, by the way that commands take to L1's memory."""
    seen = {True: 0, False: 0}
    with gdb_nept.open_dump(snapshot / "memory.raw") as target:
        memory = target.vcpu().memory
        told = memory.export(tmp_path / "l1")
        with open_dump(tmp_path / "l1") as dump:
            for piece in memory.pages():
                there = isinstance(piece, gdb_nept.Pages)
                seen[there] += 1
                if isinstance(piece, gdb_nept.Pages):
                    assert dump.memory.read(HostPhys(piece.start), PAGE) == piece.data
                else:
                    with pytest.raises(MemoryUnreadable):
                        dump.memory.read(HostPhys(piece.start), PAGE)
    assert seen[True] * PAGE == told.bytes
    assert sum(left.bytes for left in told.left) == seen[False] * PAGE
    assert {left.kind for left in told.left} == {"not mapped in the host"}
    assert not told.lost


def test_l2s_memory_is_what_ept12_maps(plain_snapshot: Path, tmp_path: Path) -> None:
    chance, compared = random.Random(3), 0
    with gdb_nept.open_dump(plain_snapshot / "memory.raw") as target:
        vcpu = target.vcpu()
        told = vcpu.l2_memory.export(tmp_path / "l2")
        with open_dump(tmp_path / "l2") as dump:
            runs = [run for run in vcpu.ept12.runs() if isinstance(run, gdb_nept.Run)]
            for run in runs:
                for _ in range(20):
                    place = run.start + chance.randrange(run.size // PAGE) * PAGE
                    data = vcpu.l2_memory.read(L2Phys(place), PAGE)
                    if isinstance(data, bytes):
                        compared += 1
                        assert dump.memory.read(HostPhys(place), PAGE) == data
                    else:
                        with pytest.raises(MemoryUnreadable):
                            dump.memory.read(HostPhys(place), PAGE)
    assert compared > 500
    assert "misconfigured in EPT12" in {left.kind for left in told.left}


@pytest.mark.gdb
def test_gdb_opens_it(plain_snapshot: Path, tmp_path: Path) -> None:
    with gdb_nept.open_dump(plain_snapshot / "memory.raw") as target:
        vcpu = target.vcpu()
        root = vcpu.ept12.eptp.address
        words = vcpu.memory.read(L1Phys(root), 32)
        vcpu.memory.export(tmp_path / "l1")
    assert isinstance(words, bytes)
    said = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", f"core-file {tmp_path / 'l1'}", "-ex", f"x/4gx {root:#x}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = [int(word, 16) for word in re.findall(r"0x[0-9a-f]{16}", said)]
    assert b"".join(word.to_bytes(8, "little") for word in found) == words
    assert any(found)


@pytest.mark.gdb
@pytest.mark.parametrize("whose", ["--l1", "--l2"])
def test_it_has_no_registers_and_says_so(
    plain_snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], whose: str
) -> None:
    core = tmp_path / "core"
    words = ["--dump", str(plain_snapshot / "memory.raw"), "export", whose, "--output", str(core)]
    main([*words, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["notes"] == ["GDB_NEPT"]
    assert read_headers(core).exported
    assert read_headers(core).cpus == ()
    if shutil.which("readelf"):
        told = ["readelf", "-nW", str(core)]
        notes = subprocess.run(told, capture_output=True, text=True, check=True).stdout
        assert "GDB_NEPT" in notes
        assert "PRSTATUS" not in notes
    asked = ["gdb", "-nx", "-batch", "-ex", f"core-file {core}", "-ex", "info registers"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert re.search(r"^rip +<unavailable>$", said.stdout, re.MULTILINE)
    main([*words, "--force"])
    assert "without registers (see nept" in " ".join(capsys.readouterr().out.split())


def test_the_command(
    plain_snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--dump", str(plain_snapshot / "memory.raw"), "export"]
    file = ["--output", str(tmp_path / "core")]
    assert main([*words, "--l1", *file, "--json"]) == Status.DONE.value
    answer = json.loads(capsys.readouterr().out)
    hold("export", answer)
    assert answer["bytes"] % PAGE == 0
    assert main([*words, "--l1", *file]) == Status.NOT_FOUND.value
    assert "is there already" in " ".join(capsys.readouterr().err.split())
    assert main([*words, *file]) == Status.USAGE.value
    assert main([*words, "--l1", "--vm", "2", *file, "--force", "--json"]) == Status.DONE.value
    hold("export", json.loads(capsys.readouterr().out))
    limited = [*words, "--l2", *file, "--force", "--limit", "1000", "--json"]
    assert main(limited) == Status.INCOMPLETE.value
    cut = json.loads(capsys.readouterr().out)
    hold("export", cut)
    assert not cut["complete"]
    assert cut["bytes"] <= 1000 * PAGE


class Missing:
    """A memory of which some pages were left out."""

    def __init__(self, below: RawMemory[HostPhys], pages: set[int]) -> None:
        self.below, self.pages = below, pages

    def read(self, address: HostPhys, size: int) -> bytes:
        for page in range(address // PAGE, (address + size - 1) // PAGE + 1):
            if page in self.pages:
                raise MemoryUnreadable(address, size, "filtered out", UnreadKind.FILTERED)
        return self.below.read(address, size)


def exported(raw: Path, path: Path, missing: set[int]) -> Exported:
    """A whole machine, as if it were L1 in slots that lie like the host's own memory."""
    memory: RawMemory[HostPhys] = RawMemory(raw)

    def parts(budget: Budget) -> Iterator[Part]:
        for start in range(0, memory.size, BATCH):
            yield Piece(start, BATCH, HostPhys(start))

    physical = Missing(memory, missing)
    read = lambda address, size: physical.read(HostPhys(address), size)  # noqa: E731
    return export("a host's", parts, read, physical, path, False, Budget(1 << 40))


def test_where_the_guest_is_a_host_the_tool_answers_as_on_the_host_itself(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With vmcoreinfo's note taken over."""
    missing = {0x100, 0x102, 0x103}
    told = exported(snapshot / "memory.raw", tmp_path / "host", missing)
    assert "amd64" in told.release
    assert [(left.kind, left.bytes, left.stretches) for left in told.left] == [
        ("filtered", 3 * PAGE, 2)
    ]
    assert told.lost
    assert told.notes == ("VMCOREINFO", "GDB_NEPT")
    for words in (["vms"], ["vmcs12"], ["ept"], ["walk", "0x2000000"]):
        answers = []
        for file in (snapshot / "memory.raw", tmp_path / "host"):
            answers.append((main(["--dump", str(file), *words]), capsys.readouterr().out))
        (status, of_image), (as_well, of_export) = answers
        assert status == as_well
        added = of_export.removeprefix(of_image.rstrip("\n"))
        assert added.strip() == "" or "a hypervisor below the host took this dump" in added
    main(["--dump", str(tmp_path / "host"), "target"])
    assert "the dump's vmcoreinfo note" in capsys.readouterr().out


def test_drgn_opens_it_and_reads_the_same(plain_snapshot: Path, tmp_path: Path) -> None:
    """A thousand kernel addresses, which drgn translates by the tables that the note names."""
    drgn = tools.module("drgn")
    exported(plain_snapshot / "memory.raw", tmp_path / "host", set())
    program = drgn.Program()
    program.set_core_dump(str(tmp_path / "host"))
    chance, compared = random.Random(7), 0
    with gdb_nept.open_dump(plain_snapshot / "memory.raw") as target:
        kernel = target.session.kernel
        start = kernel.symbols.address("_stext")
        module = kernel.symbols.address("vm_list", "kvm") & ~(PAGE - 1)
        for base, size in ((start, 8 << 20), (DIRECT_MAP + (1 << 20), 256 << 20), (module, PAGE)):
            for _ in range(334):
                place = KernelVirt(base + chance.randrange(size // 8) * 8)
                found = kernel.read(place, 8)
                assert program.read(place, 8) == found
                physical = kernel.to_physical(place)
                assert program.read(physical, 8, physical=True) == found
                compared += 1
    assert compared > 1000
