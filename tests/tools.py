# SPDX-License-Identifier: GPL-2.0-or-later
"""Tools that tests need.  One that is missing skips a test with the reason; where NEPT_REQUIRE
names it, or says "all", as in CI, the test fails instead."""

from __future__ import annotations

import importlib
import os
import shutil
from ctypes.util import find_library
from typing import Any, NoReturn

import pytest

#: By marker (setup.cfg): the programs, and the one library, that its tests need.
TOOLS = {
    "browser": ("chromium",),
    "gdb": ("gdb",),
    "kdumpfile": ("libkdumpfile",),
    "makedumpfile": ("makedumpfile",),
    "qemu": ("qemu-system-x86_64",),
    "bochs": ("bochs", "grub-mkrescue", "xorriso", "mformat", "busybox", "gcc", "make", "dpkg"),
    "kgdb": ("bc", "bison", "flex", "make", "nice", "xz"),
}


def missing(tool: str, reason: str) -> NoReturn:
    """Ends the test that cannot do without."""
    required = os.environ.get("NEPT_REQUIRE", "").split(",")
    if tool in required or "all" in required:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str) -> str:
    """Where it is."""
    found = shutil.which(name)
    if found is None:
        missing(name, f"needs {name}: scripts/setup installs it")
    return found


def module(name: str) -> Any:
    """Python's, imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing(name.partition(".")[0], f"needs {name}: scripts/setup installs it ({error})")


def need(marker: str) -> None:
    """All that the tests with this marker need."""
    lacking = [tool for tool in TOOLS.get(marker, ()) if not _is_here(tool)]
    if lacking:
        missing(marker, f"needs {', '.join(lacking)}: scripts/setup installs it")


def _is_here(tool: str) -> bool:
    if tool.startswith("lib"):
        return find_library(tool.removeprefix("lib")) is not None
    return shutil.which(tool) is not None
