# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that QEMU and makedumpfile write of a lab snapshot: their pages are those of the raw image,
and what they leave out is told as such.  `test_every_command.py` asks all that can be asked."""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdb_nept.__main__ import main
from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, MemoryUnreadable, UnreadKind
from gdb_nept.memory.cpu_registers import Registers
from gdb_nept.memory.dump import open_dump
from gdb_nept.render.page import Status
from tests import tools
from tests.dumps.files import PAGE
from tests.dumps.written import BIOS, every_format
from tests.fuzz.dumps import Dumps, damage
from tests.schemas import hold

pytestmark = [
    pytest.mark.bochs,
    pytest.mark.qemu,
    pytest.mark.kdumpfile,
    pytest.mark.makedumpfile,
]

#: Those that need nothing of L1's memory.
OF_KVM = (("vms",), ("vmcs12",), ("check",), ("ept", "--shadow"), ("ept", "--l1"))
FILTERED = ("c-d31", "E-d31")

Files = dict[str, Path]


@pytest.fixture(scope="module")
def files(plain_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    folder = tmp_path_factory.mktemp("dumps")
    yield every_format(plain_snapshot, folder)
    shutil.rmtree(folder, ignore_errors=True)


def asked(capsys: pytest.CaptureFixture[str], dump: Path, *words: str) -> tuple[int, str, str]:
    status = main(["--dump", str(dump), *words])
    found = capsys.readouterr()
    return status, found.out, found.err


def of_taking(words: tuple[str, ...], answer: tuple[int, str, str]) -> tuple[int, str, str]:
    """The answer without what hangs on how a dump was taken: of a vmcs12 which copy counts."""
    status, shown, errors = answer
    if words[0] == "vmcs12" and "--json" in words:
        data = json.loads(shown)
        del data["notes"], data["vmcss_cleared"]
        shown = json.dumps(data)
    elif words[0] == "vmcs12":
        shown = shown.split("\n\nnote: ")[0].rstrip()
    return status, shown, errors


@pytest.mark.parametrize("name", ["elf", "qemu-zlib", "c-d1", "z-d1", "p-d1", "E-d31"])
def test_every_page_is_that_of_the_raw_image(files: Files, name: str) -> None:
    if name not in files:
        tools.missing("makedumpfile", "there is no makedumpfile that writes this")
    raw = files["raw"].read_bytes()
    with open_dump(files[name]) as dump:
        for stretch in dump.memory.data_ranges():
            for start in range(stretch.start, min(stretch.stop, len(raw)), 1 << 20):
                size = min(1 << 20, stretch.stop - start)
                found = dump.memory.read(HostPhys(start), size)
                wanted = bytearray(raw[start : start + size])
                bios = BIOS * PAGE - start
                if 0 <= bios < size:
                    wanted[bios : bios + PAGE] = found[bios : bios + PAGE]
                assert found == wanted, hex(start)


@pytest.mark.parametrize("name", ["qemu-flat", "qemu-zlib", "c-d1", "F-d1"])
def test_pages_of_zeros_are_passed_over(files: Files, name: str) -> None:
    raw = files["raw"].read_bytes()
    outside = bytearray(raw)
    with open_dump(files[name]) as dump:
        ranges = dump.memory.data_ranges()
    for one in ranges:  # QEMU's has its BIOS behind RAM, too
        stop = min(one.stop, len(raw))
        outside[one.start : stop] = bytes(max(0, stop - one.start))
    outside[BIOS * PAGE : (BIOS + 1) * PAGE] = bytes(PAGE)
    assert outside.count(0) == len(raw)
    assert sum(map(len, ranges)) < len(raw) // 2


@pytest.mark.parametrize("name", FILTERED)
def test_of_a_filtered_dump_what_is_kvms_is_the_same(
    files: Files, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for words in OF_KVM:
        of_raw, found = (asked(capsys, files[one], *words) for one in ("raw", name))
        assert of_taking(words, found) == of_taking(words, of_raw)


@pytest.mark.parametrize("name", FILTERED)
def test_a_table_that_was_filtered_is_no_hole(
    files: Files, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    status, shown, _ = asked(capsys, files[name], "ept")
    assert status == Status.UNREAD.value
    assert "hole" not in shown
    assert "~256T unread" in shown
    status, shown, _ = asked(capsys, files[name], "ept", "--json")
    answer = json.loads(shown)
    assert {run["kind"] for run in answer["runs"]} == {"filtered"}
    assert {run["how"] for run in answer["runs"]} == {"missing", "derived"}
    assert answer["unread"] + answer["derived"] == sum(run["size"] for run in answer["runs"])
    assert answer["unread"] + answer["derived"] == 1 << 48
    assert (answer["pages"], answer["mapped"]) == (0, 0)
    status, shown, _ = asked(capsys, files[name], "walk", "--json", "0x2000000")
    walk = json.loads(shown)
    assert walk["ept12"]["stop"]["unread"] == "filtered"
    assert walk["ept12"]["stop"]["cause"] == "table unreadable"
    assert walk["agreement"] == "unreadable"
    assert walk["hops"]["EPT12"] == "derived"
    assert walk["hops"]["host page tables"] == "read"
    whole = json.loads(asked(capsys, files["raw"], "walk", "--json", "0x2000000")[1])
    hold("walk", walk)
    derived = walk["derived"]
    assert whole["derived"] is None
    assert derived["address"] == whole["ept12"]["address"]
    assert derived["host_physical"] == whole["host_physical"] == walk["ept02"]["address"]
    assert [(one["table"], one["index"]) for one in derived["tables"]] == [
        (step["table"], step["index"]) for step in whole["ept12"]["steps"]
    ]
    assert walk["ept02"]["address"] is not None
    assert status == Status.NOT_FOUND.value


@pytest.mark.parametrize("name", FILTERED)
def test_what_kvm_noted_of_a_filtered_table_is_what_stands_in_it(
    files: Files, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Each derived entry is held against the raw image's, and all that KVM shadows is there."""
    read = json.loads(asked(capsys, files["raw"], "ept", "--entries", "--json")[1])["runs"]
    entries = {run["start"]: run for run in read if "rights" in run}
    answer = json.loads(asked(capsys, files[name], "ept", "--entries", "--json")[1])
    hold("ept", answer)
    derived = [run for run in answer["runs"] if run["how"] == "derived"]
    for run in derived:
        entry = entries[run["start"]]
        for key in ("end", "page_size", "leads_to", "entry_address"):
            assert run[key] == entry[key], run
        given = zip(run["rights_at_least"], entry["rights"])
        assert all(at_least in ("-", there) for at_least, there in given), run
    shadow = json.loads(asked(capsys, files["raw"], "ept", "--shadow", "--entries", "--json")[1])
    starts = sorted(int(run["start"], 16) for run in derived)
    for run in shadow["runs"]:
        if "rights" in run:
            start = int(run["start"], 16)
            below = max(one for one in starts if one <= start)
            assert start < int(entries[hex(below)]["end"], 16), run
    assert len(derived) > 50
    status, shown, _ = asked(capsys, files[name], "ept", "0x2000000+16K")
    assert status == Status.UNREAD.value
    assert ">=RWX  derived       2x4K  0x0001020000" in shown
    assert "RWX is what L1 grants at least" in " ".join(shown.split())


@pytest.mark.parametrize("name", FILTERED)
def test_whatever_hangs_on_what_was_filtered_says_so(
    files: Files, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for words in ("map", "scan", "who 0x6020000", "compare 0x2000000+2M"):
        assert asked(capsys, files[name], *words.split())[0] == Status.UNREAD.value
    who = json.loads(asked(capsys, files[name], "who", "--json", "0x6020000")[1])
    assert who["l2"]
    assert {(one["ept12"], *one["unread"]) for one in who["l2"]} == {(None, "EPT12")}
    link = json.loads(asked(capsys, files[name], "check", "--json")[1])["link"]["why"]
    assert "left out of the dump" in link
    assert "no page" not in link


def test_registers(files: Files) -> None:
    """A stub of QEMU in its reset state takes the low half of RSP alone."""
    told = json.loads((files["raw"].parent / "registers.json").read_text())
    rip, rsp, cr3 = (int(told[name], 0) for name in ("rip", "rsp", "cr3"))
    rsp &= (1 << 32) - 1
    with open_dump(files["elf"]) as dump:
        assert dump.cpus == (Registers(rip, rsp, cr3),)
        assert not dump.by_kdump
        assert dump.vmcoreinfo.startswith(b"OSRELEASE=")
    with open_dump(files["c-d31"]) as dump:
        assert [(one.rip, one.rsp) for one in dump.cpus] == [(rip, rsp)]


def test_a_vmcs12_says_which_copy_to_believe(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, cleared, told in (
        ("elf", False, "a hypervisor below the host took this dump, and cleared no VMCS"),
        ("c-d31", None, "does not tell whether kdump took the dump"),
        ("raw", None, ""),
    ):
        answer = json.loads(asked(capsys, files[name], "vmcs12", "--json")[1])
        hold("vmcs12", answer)
        assert answer["vmcss_cleared"] is cleared
        assert told in " ".join(answer["notes"])
        assert bool(answer["notes"]) is bool(told)
        shown = " ".join(asked(capsys, files[name], "vmcs12", "guest_rip")[1].split())
        assert all(f"note: {note}" in shown for note in answer["notes"])


def test_what_cannot_be_used_says_so(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = asked(capsys, files["paging"], "vms")
    assert status == Status.NOT_FOUND.value
    assert "most of memory is not in it" in " ".join(errors.split())
    assert "Dump again without -p" in errors
    for name in ("qemu-flat", "F-d1"):
        told = opened_or_why(files[name])
        assert "is flattened" in told or told.startswith("flattened kdump-compressed dump")
        assert told.startswith("flattened") or "makedumpfile -R" in told


@pytest.mark.parametrize("name", ["E-d31", "c-d31", "l-d1", "z-d31", "F-d1"])
def test_damaged_headers_are_read_or_refused(files: Files, tmp_path: Path, name: str) -> None:
    """Without a crash of ours, whatever becomes of the library."""
    if name not in files:
        tools.missing("makedumpfile", "there is no makedumpfile that writes this")
    shutil.copyfile(files[name], tmp_path / name)
    dumps = Dumps([tmp_path / name])
    ends = Counter(dumps.case(random.Random(seed)) for seed in range(60))
    assert not [problem for _, problem in ends if problem]
    assert ends[f"{name} read", ""] < sum(ends.values()), "some damage does bite"
    assert filecmp.cmp(files[name], tmp_path / name, shallow=False)


def test_triage_of_whole_and_damaged_copies(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole ones have one line whatever their format; no damaged one costs another its own."""
    asked = []
    for number, name in enumerate(["c-d31", "F-d1"] * 8):
        copy = shutil.copyfile(files[name], tmp_path / f"{number}-{name}")
        dice = random.Random(number)
        if number % 4 == 0:
            os.truncate(copy, dice.randrange(1, copy.stat().st_size))
        else:
            damage(copy, dice)
        whole = files[("raw", "elf", "c-d31", "l-d1")[number % 4]]
        asked += [str(whole), str(copy)]
    main(["triage", "--jobs", "2", *asked])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        hold("triage", line)
    assert [line.pop("file") for line in lines] == asked
    assert all(line == lines[0] for line in lines[::2])
    assert (lines[0]["outcome"], lines[0]["status"]) == ("read", Status.DONE.value)
    ends = Counter((line["outcome"], line["status"]) for line in lines[1::2])
    assert set(ends) <= {("read", 0), ("read", 5), ("unreadable", 1)}
    assert ends["unreadable", 1], "some damage does bite"


def opened_or_why(path: Path) -> str:
    """A library that drgn brings reads it; Debian 12's does not."""
    try:
        with open_dump(path) as dump:
            return dump.format
    except BadInput as error:
        return str(error)


@pytest.mark.parametrize(("name", "share"), [("elf", 2), ("E-d31", 2), ("c-d1", 2), ("l-d1", 4)])
def test_a_cut_file_gives_nothing_for_what_it_lacks(
    files: Files, tmp_path: Path, name: str, share: int
) -> None:
    cut = tmp_path / name
    size = files[name].stat().st_size
    shutil.copyfile(files[name], cut)
    os.truncate(cut, size - size // share)
    raw = files["raw"].read_bytes()
    kinds = set()
    with open_dump(cut) as dump:
        assert "cut" in dump.notes[0]
        for start in range(1 << 20, len(raw), 1 << 20):
            try:
                found = dump.memory.read(HostPhys(start), PAGE)
            except MemoryUnreadable as error:
                kinds.add(error.kind)
            else:
                assert found == raw[start : start + PAGE]
    assert UnreadKind.CUT in kinds
    assert kinds <= {UnreadKind.CUT, UnreadKind.FILTERED}
