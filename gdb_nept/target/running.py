# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command that follows a live machine asks of a debugger: to let it run, and registers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from gdb_nept.address import KernelVirt


class Running(Protocol):
    """A machine behind a debugger, which stands between two calls.

    Memory read before a run is stale after it.  Nothing is written but breakpoints, and none is
    left when the block that `commands.command.Context.running` gives ends.
    """

    def run_to(self, places: Collection[KernelVirt]) -> KernelVirt | None:
        """Let it run until a processor is about to execute one of `places`; which one.

        None: it stands for another reason, which `why` tells.  Raises TargetGone.
        """
        ...

    @property
    def why(self) -> str:
        """Why it stands where nobody asked it to; '' if that is not so."""
        ...

    def register(self, name: str) -> int:
        """A register of the processor that reached the place, as 64 bits, not negative."""
        ...
