# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel, out of a snapshot of its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.memory.raw import RawMemory
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.linux import attach


@pytest.fixture
def memory(snapshot: Path) -> RawMemory[HostPhys]:
    return RawMemory(snapshot / "memory.raw")


@pytest.fixture
def kernel(memory: RawMemory[HostPhys], tmp_path: Path) -> LinuxKernel:
    return attach(memory, memory.size, cache=tmp_path)
