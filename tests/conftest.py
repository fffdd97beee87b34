# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests on real targets share: the tools they need, and the lab's snapshots.

A tool that is missing skips the test with its reason; named in NEPT_REQUIRE it fails instead.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions
from bochs_lab.replay import Replay

TOOLS = {
    "gdb": ("gdb",),
    "qemu": ("qemu-system-x86_64",),
    "bochs": ("bochs", "grub-mkrescue", "xorriso", "mformat", "busybox", "gcc", "make", "dpkg"),
}

#: The lab's machines: as simple as can be, and as a distribution boots it.
MACHINES = {"plain": LabOptions(), "kaslr-pti": LabOptions(kaslr=True, pti=True)}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    required = os.environ.get("NEPT_REQUIRE", "").split(",")
    for marker in item.iter_markers():
        missing = [tool for tool in TOOLS.get(marker.name, ()) if shutil.which(tool) is None]
        if missing:
            reason = f"needs {', '.join(missing)}: scripts/setup installs it"
            if marker.name in required:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture(scope="session", params=list(MACHINES))
def snapshot(request: pytest.FixtureRequest) -> Path:
    """The directory of a snapshot with L2 active; once for each machine of the lab."""
    return lab.ensure(MACHINES[request.param])


@pytest.fixture(scope="session")
def plain_snapshot() -> Path:
    """The snapshot of the simplest machine, L2 active."""
    return lab.ensure(MACHINES["plain"])


@pytest.fixture(scope="session")
def exit_snapshot() -> Path:
    """The simplest machine with L1 in its exit handler, just after an EPT exit."""
    return lab.ensure(LabOptions(park="l1-exit"))


@pytest.fixture(scope="session")
def replay(plain_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """QEMU with a gdbstub over the simplest snapshot."""
    with Replay(plain_snapshot, tmp_path_factory.mktemp("replay")) as machine:
        yield machine


def facts(snapshot: Path, name: str) -> list[Any]:
    """What the guests printed under `name`, in order: {"vm": ...} lines and the like."""
    objects = json.loads((snapshot / "facts.json").read_text())
    return [found[name] for found in objects if name in found]
