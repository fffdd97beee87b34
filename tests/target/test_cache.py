# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from gdb_nept.target.cache import MOST_CONTENTS, BuildCache, default_directory

ID = "9195989c83d911cb7bb7a4028be250f1d874c740"


def test_kept_by_build(tmp_path: Path) -> None:
    assert BuildCache(tmp_path, ID).store("kallsyms", b"names")
    assert list(BuildCache(tmp_path, ID).contents("kallsyms")) == [b"names"]
    assert list(BuildCache(tmp_path, "0" * 40).contents("kallsyms")) == []
    assert list(BuildCache(tmp_path, ID).contents("kall")) == []
    (file,) = (tmp_path / ID).iterdir()
    assert file.name == f"kallsyms-{zlib.crc32(b'names'):08x}"


def test_one_content_never_takes_the_place_of_another(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, ID)
    for number, payload in enumerate((b"good", b"damaged")):
        cache.store("vmlinux.btf", payload)
        os.utime(tmp_path / ID / f"vmlinux.btf-{zlib.crc32(payload):08x}", (number, number))
    assert list(cache.contents("vmlinux.btf")) == [b"damaged", b"good"]
    for number in range(100):
        cache.store("vmlinux.btf", b"%d" % number)
    assert len(list(cache.contents("vmlinux.btf"))) == MOST_CONTENTS


def test_damaged_and_foreign_files_count_as_absent(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, ID)
    cache.store("blob", b"payload")
    (file,) = (tmp_path / ID).iterdir()
    whole = file.read_bytes()
    other = BuildCache(tmp_path, "f" * 40)
    other.store("blob", b"payload")
    foreign = (tmp_path / ("f" * 40) / file.name).read_bytes()
    for damaged in (b"", whole[:-1], whole[:20], whole + b"x", b"X" + whole[1:], foreign):
        file.write_bytes(damaged)
        assert list(cache.contents("blob")) == []
    assert cache.store("blob", b"payload")
    assert list(cache.contents("blob")) == [b"payload"]


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = BuildCache(blocked, ID)
    assert not cache.store("kallsyms", b"x")
    assert list(cache.contents("kallsyms")) == []


@pytest.mark.parametrize("name", ["", "../../etc", "short", "..........", "a/b" * 10])
def test_names_that_are_no_build_keep_nothing(tmp_path: Path, name: str) -> None:
    assert BuildCache(tmp_path, name).folder is None
    assert BuildCache(None, ID).folder is None


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_directory() == Path("/somewhere/gdb_nept/kernel")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_directory() == Path("/home/me/.cache/gdb_nept/kernel")
