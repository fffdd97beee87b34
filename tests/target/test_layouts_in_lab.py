# SPDX-License-Identifier: GPL-2.0-or-later
"""Layouts on a real Linux 5.10, which carries no BTF of its modules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, NoGuest
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.session import Session
from gdb_nept.render.target import target_page
from gdb_nept.target import layouts
from gdb_nept.target.attachment import Attachment, lacking
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.layouts import Layouts
from gdb_nept.target.linux import attach, build_of_notes
from tests.conftest import kernel_cache

pytestmark = pytest.mark.bochs

#: Of vmlinux in linux-image-5.10.0-32-cloud-amd64-dbg 5.10.223-1, by readelf -n.
BUILD_ID = "e0c94673e97d58a386e99a20572aa7d597d5aa5c"


@pytest.fixture(scope="module")
def memory() -> RawMemory[HostPhys]:
    return RawMemory(lab.ensure(LabOptions(kernel="5.10")) / "memory.raw")


def attached(memory: RawMemory[HostPhys], *files: Path) -> LinuxKernel:
    return attach(memory, ram=memory.size, btf_files=files, cache=kernel_cache())


def told(kernel: LinuxKernel) -> str:
    page = target_page(Attachment("dump", "raw image", kernel, lacking(kernel)))
    return "\n".join(map(str, page.blocks))


def ours(kernel: LinuxKernel) -> Layouts:
    return next(each for each in layouts.shipped() if each.release == kernel.release)


def test_the_build_is_known_and_l2_is_seen(memory: RawMemory[HostPhys]) -> None:
    kernel = attached(memory)
    assert "kvm_intel: layouts of build" in told(kernel)
    assert f"({kernel.release}), from DWARF" in told(kernel)
    assert "missing" not in told(kernel)
    nested = Session(kernel).pick(None, None).vcpu.nested
    assert nested is not None
    assert nested.l2_active


def test_vmlinux_build_id_is_read_of_its_notes(memory: RawMemory[HostPhys]) -> None:
    seen: list[str] = []

    def spy(*words: object) -> str:
        seen.append(build_of_notes(*words))  # type: ignore[arg-type]
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gdb_nept.target.linux.build_of_notes", spy)
        kernel = attached(memory)
    assert {*seen, kernel.build_id} >= {BUILD_ID}


def test_another_build_of_the_release_is_not_taken(
    memory: RawMemory[HostPhys], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = attached(memory)
    other = replace(ours(kernel), build_ids={"kvm": "ab" * 20, "kvm_intel": "cd" * 20})

    def only_other() -> Iterator[Layouts]:
        yield other

    monkeypatch.setattr(layouts, "shipped", only_other)
    said = " ".join(told(kernel).split())
    assert f"those of {kernel.release} are of another build (cdcdcdcd)" in said
    assert f"scripts/layouts --debian {kernel.release}" in said
    with pytest.raises(NoGuest, match="nested state is unknown"):
        Session(kernel).pick(None, None)


def test_a_file_of_the_users_is_taken_and_checked(
    memory: RawMemory[HostPhys], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.loads(ours(attached(memory)).path.read_text())
    monkeypatch.setattr(layouts, "shipped", lambda: iter(()))
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(whole))
    kernel = attached(memory, mine)
    assert f"kvm: layouts from DWARF, {mine}, build" in told(kernel)
    assert Session(kernel).pick(None, None).vcpu.id == 0
    whole["build_ids"]["kvm_intel"] = "cd" * 20
    mine.write_text(json.dumps(whole))
    said = " ".join(told(attached(memory, mine)).split())
    assert "is of another build than the loaded module kvm_intel" in said
    whole["release"] = "5.10.0-31-cloud-amd64"
    mine.write_text(json.dumps(whole))
    with pytest.raises(BadInput, match="is for Linux"):
        attached(memory, mine)
