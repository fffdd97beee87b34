# SPDX-License-Identifier: GPL-2.0-or-later
"""Layouts that scripts/layouts made with gdb, against what pahole says of the same DWARF."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.errors import BadInput, MemberMissing
from gdb_nept.target import layouts
from gdb_nept.target.layout_writer import ROOTS
from gdb_nept.target.layouts import LayoutReader, Layouts
from gdb_nept.target.ports import CType
from gdb_nept.target.type_sources import checked_files, read_type_file

ROOT = Path(__file__).resolve().parents[2]
BUILD = "5.10.0-32-cloud-amd64"
PAHOLE = json.loads((ROOT / "tests/data/dwarf_offsets.json").read_text())["structs"]


def shipped() -> Layouts:
    return next(each for each in layouts.shipped() if each.release == BUILD)


def reader(module: str) -> LayoutReader:
    return LayoutReader(shipped().bodies(module), lambda name: None)


def struct(module: str, name: str) -> CType:
    found = reader(module).named(name)
    assert found is not None, name
    return found


@pytest.mark.parametrize("name", PAHOLE)
def test_offsets_and_sizes_are_paholes(name: str) -> None:
    said = PAHOLE[name]
    found = struct(said["module"], name)
    assert found.size == said["size"]
    assert found.names is not None
    ours: dict[str, list[int]] = {}
    for each in found.names():
        member = found.member(each)
        if not member.bit_size:
            ours[each] = [member.offset, member.type.size]
            continue
        unit, size = said["members"][each][:2]  # of a bit field pahole counts in its own unit
        ours[each] = [unit, size, member.bit_offset - 8 * unit, member.bit_size]
    assert ours == said["members"]


def test_pointers_arrays_enums_and_functions() -> None:
    vcpus = struct("kvm", "kvm").member("vcpus").type
    assert (vcpus.kind, vcpus.count, vcpus.size) == ("array", 288, 288 * 8)
    vcpu = vcpus.element().element()
    assert (vcpu.kind, vcpu.name) == ("struct", "kvm_vcpu")
    assert vcpu.member("arch.mmu").type.element().name == "kvm_mmu"
    inject = struct("kvm", "kvm_mmu").member("inject_page_fault").type.element()
    assert (inject.kind, inject.count) == ("function", 2)  # vcpu and fault
    assert struct("kvm_intel", "vcpu_vmx").member("vcpu.cpu").type.signed
    with pytest.raises(MemberMissing):
        struct("kvm", "kvm_mmu").member("root")


def test_what_the_file_lacks_is_asked_elsewhere() -> None:
    asked: list[str] = []
    outside = CType("struct", "mm_struct", 1016)

    def elsewhere(name: str) -> CType:
        asked.append(name)
        return outside

    found = LayoutReader(shipped().bodies("kvm"), elsewhere)
    whole = found.named("kvm")
    assert whole is not None
    assert whole.member("mm").type.element() is outside
    assert asked == ["mm_struct"]
    assert found.named("mm_struct") is None


def test_files_are_small_and_of_different_builds() -> None:
    found = list(layouts.shipped())
    assert len(found) >= 2
    builds = [tuple(sorted(each.build_ids.values())) for each in found]
    assert len(set(builds)) == len(found)
    for each in found:
        assert each.path.stat().st_size < 100_000
        assert all(len(build) == 40 for build in each.build_ids.values())


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"format": "gdb_nept layouts 0"}',
        '{"format": "gdb_nept layouts 1", "release": "", "build_ids": {}, "types": []}',
        '{"format": "gdb_nept layouts 1", "release": "", "build_ids": {}, "types": {"kvm": 1}}',
        '{"format": "gdb_nept layouts 1", "release": "", "build_ids": {},'
        ' "types": {"kvm": {"struct kvm": {"size": 8, "members": {"a": [0]}}}}}',
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "layouts.json"
    file.write_text(text)
    with pytest.raises(BadInput):
        read_type_file(file)


def test_an_unknown_type_is_an_error() -> None:
    body = {"struct x": {"size": 8, "members": {"a": [0, "u8 x"], "b": [0, "u8" + "[1]" * 40]}}}
    found = LayoutReader(body, lambda name: None).named("x")
    assert found is not None
    for name in ("a", "b"):
        with pytest.raises(BadInput):
            found.member(name)


def test_a_file_of_another_release_or_vmlinux_is_refused(tmp_path: Path) -> None:
    path = shipped().path
    assert checked_files([path], BUILD, "00" * 20)[0].release == BUILD
    with pytest.raises(BadInput, match="is for Linux"):
        checked_files([path], "5.10.0-31-cloud-amd64", "")
    whole = json.loads(path.read_text())
    whole["build_ids"]["vmlinux"] = "ab" * 20
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    with pytest.raises(BadInput, match="another build"):
        checked_files([tmp_path / "whole.json"], BUILD, "00" * 20)


# -- scripts/layouts -------------------------------------------------------------------------------

SOURCE = """
struct list_head { struct list_head *next, *prev; };
typedef struct { int counter; } atomic_t;
enum mode { OUTSIDE, INSIDE = 7, BELOW = -1 };
struct kvm_vcpu;
struct kvm { struct kvm_vcpu *vcpus[3]; atomic_t online; _Bool used; signed char small;
    unsigned low : 3, high : 9; union { long a; double b; }; struct { short x; } inner[2][5];
    enum mode mode; void *data; const volatile unsigned long word;
    int (*call)(struct kvm *, int, long); struct mm_struct *mm; struct list_head vm_list; };
struct kvm_vcpu { struct kvm *kvm; int id; };
struct kvm it;
"""


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "layouts"), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def compiled(folder: Path, *flags: str) -> Path:
    (folder / "kvm.c").write_text(SOURCE)
    words = ["gcc", *flags, "-c", "-o", "kvm.ko.debug", "kvm.c"]
    subprocess.run(words, cwd=folder, check=True)
    return folder / "kvm.ko.debug"


@pytest.mark.gdb
@pytest.mark.bochs  # for its C compiler
def test_the_script_makes_layouts_of_any_module(tmp_path: Path) -> None:
    file = compiled(tmp_path, "-g")
    done = run(str(file), "-o", "made.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "set nept btf made.json" in done.stdout
    made = read_type_file(tmp_path / "made.json")
    assert isinstance(made, Layouts)
    found = LayoutReader(made.bodies("kvm"), lambda name: None).named("kvm")
    assert found is not None
    places: dict[str, Any] = {
        name: (member.offset, member.bit_size, member.type.kind, member.type.size)
        for name, member in ((each, found.member(each)) for each in (found.names or tuple)())
    }
    assert places == {
        "vcpus": (0, 0, "array", 24),
        "online": (24, 0, "struct", 4),
        "used": (28, 0, "int", 1),
        "small": (29, 0, "int", 1),
        "low": (30, 3, "int", 4),
        "high": (30, 9, "int", 4),
        "a": (32, 0, "int", 8),
        "b": (32, 0, "float", 8),
        "inner": (40, 0, "array", 20),
        "mode": (60, 0, "enum", 4),
        "data": (64, 0, "pointer", 8),
        "word": (72, 0, "int", 8),
        "call": (80, 0, "pointer", 8),
        "mm": (88, 0, "pointer", 8),
        "vm_list": (96, 0, "struct", 16),
    }
    assert found.member("high").bit_offset == 30 * 8 + 3
    assert found.member("call").type.element().count == 3
    assert found.member("data").type.element().kind == "void"
    assert found.member("small").type.signed
    assert found.member("mode").type.enumerators == (("OUTSIDE", 0), ("INSIDE", 7), ("BELOW", -1))
    inner = found.member("inner").type
    assert (inner.count, inner.element().count) == (2, 5)
    assert inner.element().element().member("x").type.size == 2
    assert found.member("vcpus").type.element().element().member("id").offset == 8
    assert found.member("mm").type.element().size == 0


@pytest.mark.gdb
@pytest.mark.bochs
def test_the_script_says_what_is_wrong(tmp_path: Path) -> None:
    file = compiled(tmp_path)
    assert "no struct kvm in" in run(str(file), cwd=tmp_path).stderr
    assert "Name the file with DWARF" in run(str(file), cwd=tmp_path).stderr
    assert "none of kvm, kvm_intel" in run("/bin/ls", cwd=tmp_path).stderr
    assert "no 64-bit ELF file" in run(str(tmp_path / "kvm.c"), cwd=tmp_path).stderr
    assert "name files" in run(cwd=tmp_path).stderr
    assert list(ROOTS) == ["kvm", "kvm_intel", "vmlinux"]
    assert not list(tmp_path.glob("*.json"))
