# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb with our commands loaded, and a machine that is still in its firmware."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Callable

import pytest

from tests.gdb.batch import INIT, output
from tests.gdb.machine import stopped_machine

Gdb = Callable[..., str]


def environment() -> dict[str, str]:
    return {**os.environ, "TERM": "dumb", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def gdb() -> Gdb:
    """Run lines in a gdb of its own; its output, errors included.  A line that fails stops none
    after it."""

    def run(*lines: str, source: bool = True, timeout: float = 120) -> str:
        return output([f"source {INIT}", *lines] if source else lines, timeout, environment())

    return run


@pytest.fixture(scope="session")
def firmware() -> Iterator[tuple[str, int]]:
    """The stub of a machine stopped before its first instruction."""
    with stopped_machine("qemu-system-x86_64") as port:
        yield "127.0.0.1", port
