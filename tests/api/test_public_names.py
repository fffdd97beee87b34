# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of the API, without a machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gdb_nept

ROOT = Path(__file__).resolve().parents[2]


def test_each_public_name_is_there_and_documented() -> None:
    for name in gdb_nept.__all__:
        assert getattr(gdb_nept, name) is not None
        assert name in dir(gdb_nept)
    for found in (gdb_nept.open_dump, gdb_nept.attach, gdb_nept.Target, gdb_nept.Vcpu):
        assert found.__doc__


def test_the_names_that_scripts_use_stay() -> None:
    assert {"open_dump", "attach", "Target", "Vm", "Vcpu", "L2Phys", "Access", "Op"} <= set(
        gdb_nept.__all__
    )
    for name in ("vmcs12", "ept12", "ept02", "walk", "predict", "check", "l2_memory"):
        assert hasattr(gdb_nept.Vcpu, name)
    for name in ("vcpus", "memory", "slots"):
        assert hasattr(gdb_nept.Vm, name)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gdb_nept.nothing


def test_importing_reads_nothing_of_the_package() -> None:
    code = (
        "import sys, gdb_nept; print([n for n in sys.modules if n.startswith('gdb_nept.')]);"
        "gdb_nept.open_dump; print('gdb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_without_gdb_there_is_nothing_to_attach_to() -> None:
    with pytest.raises(gdb_nept.BadInput, match="inside gdb alone"):
        gdb_nept.attach()


def test_a_file_that_is_no_dump(tmp_path: Path) -> None:
    with pytest.raises(gdb_nept.NeptError):
        gdb_nept.open_dump(tmp_path / "missing")
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    with pytest.raises(gdb_nept.NeptError):
        gdb_nept.open_dump(tmp_path / "zeros")
