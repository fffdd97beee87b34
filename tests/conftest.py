# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests on real targets share: the tools they need (`tools.py`), and the lab's snapshots.

Snapshots are of the kernels that --kernels names; --matrix makes a table of them (`matrix.py`).
"""

from __future__ import annotations

import argparse
import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import kernels
from bochs_lab import snapshot as lab
from bochs_lab.emulator import INSTALLED, SKYLAKE, VERSIONS, Emulator
from bochs_lab.options import STATES, LabOptions
from bochs_lab.replay import Replay

from tests import tools
from tests.matrix import Matrix

#: How the lab's machines are booted: as simply as can be, and as a distribution does it.
MACHINES: dict[str, dict[str, Any]] = {"plain": {}, "kaslr-pti": {"kaslr": True, "pti": True}}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("the lab")
    group.addoption(
        "--kernels",
        type=_kernels,
        default=[kernels.DEFAULT],
        metavar="LIST",
        help=f"L0's kernels in the lab's snapshots, of {','.join(kernels.KERNELS)}",
    )
    group.addoption(
        "--bochs", choices=VERSIONS, default=INSTALLED, help="what those snapshots run on"
    )
    group.addoption(
        "--cpu", default=SKYLAKE, metavar="MODEL", help=f"as which processor ({SKYLAKE})"
    )
    group.addoption(
        "--whole",
        action="store_true",
        help="watch every fault: over kgdb 9 minutes, flags of EPT 4",
    )
    group.addoption(
        "--linux-l2", action="store_true", help="run the tests marked so, and no others"
    )
    group.addoption("--matrix", action="store_true", help="print a table of kernels and results")


def _kernels(written: str) -> list[str]:
    found = written.split(",")
    for line in found:
        if line not in kernels.KERNELS:
            raise argparse.ArgumentTypeError(f"{line} is none of {', '.join(kernels.KERNELS)}")
    return found


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--matrix"):
        config.pluginmanager.register(Matrix(), "matrix")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel_line" in metafunc.fixturenames:
        lines = metafunc.config.getoption("--kernels")
        metafunc.parametrize("kernel_line", lines, scope="session", indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes a named command of its own is not a part of the usual tests."""
    asked = bool(config.getoption("--linux-l2"))
    marked = [bool(item.get_closest_marker("linux_l2")) for item in items]
    others = [item for item, mark in zip(items, marked) if mark is not asked]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item, mark in zip(items, marked) if mark is asked]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        tools.need(marker.name)


@pytest.fixture(scope="session")
def kernel_line(request: pytest.FixtureRequest) -> str:
    """The line of L0's kernel: once for each of --kernels."""
    return str(request.param)


@pytest.fixture(scope="session")
def emulator(pytestconfig: pytest.Config) -> Emulator:
    """L0's processor."""
    return Emulator(pytestconfig.getoption("--bochs"), pytestconfig.getoption("--cpu"))


@pytest.fixture(scope="session")
def simplest(kernel_line: str, emulator: Emulator) -> LabOptions:
    """The simplest machine."""
    return LabOptions(kernel=kernel_line, bochs=emulator.version, cpu=emulator.cpu)


@pytest.fixture(scope="session", params=list(MACHINES))
def snapshot(request: pytest.FixtureRequest, simplest: LabOptions) -> Path:
    """The directory of a snapshot with L2 active; once for each machine of the lab."""
    return lab.ensure(replace(simplest, **MACHINES[request.param]))


@pytest.fixture(scope="session")
def plain_snapshot(simplest: LabOptions) -> Path:
    """The snapshot of the simplest machine, L2 active."""
    return lab.ensure(simplest)


@pytest.fixture(scope="session")
def exit_snapshot(simplest: LabOptions) -> Path:
    """The simplest machine with L1 in its exit handler, just after an EPT exit."""
    return lab.ensure(replace(simplest, park="l1-exit"))


@pytest.fixture(scope="session")
def states(simplest: LabOptions) -> dict[str, Path]:
    """The simplest machine with the L1 that does what hypervisors do, at each of its park points,
    and at its end: "done" has the log of the whole run."""
    return lab.series(replace(simplest, states=True, park="done"), (*STATES, "done"))


@pytest.fixture(scope="session")
def replay(plain_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """QEMU with a gdbstub over the simplest snapshot."""
    with Replay(plain_snapshot, tmp_path_factory.mktemp("replay")) as machine:
        yield machine


@lru_cache
def kernel_cache() -> Path:
    """A cache of kernels' tables of this run's own: each kernel is searched for once."""
    folder = tempfile.mkdtemp(prefix="gdb_nept-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def facts(snapshot: Path, name: str) -> list[Any]:
    """What the guests printed under `name`, in order: {"vm": ...} lines and the like."""
    objects = json.loads((snapshot / "facts.json").read_text())
    return [found[name] for found in objects if name in found]
