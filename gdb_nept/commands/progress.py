# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a long command is: a bar on a terminal, on a line that is wiped before anything else is
written there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable

AFTER = 1.0  # seconds before anything is shown
EVERY = 0.1
CELLS = 30
WIDTH = 79


def gauge(done: int, most: int) -> str:
    """[#######.......................]"""
    full = CELLS * min(done, most) // most if most > 0 else 0
    return f"[{'#' * full}{'.' * (CELLS - full)}]"


@dataclass
class Meter:
    """`write` reaches the terminal at once."""

    write: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _due: float = field(default=0.0, init=False)
    _shown: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._due = self.clock() + AFTER

    def __call__(self, what: str, done: int, most: int) -> None:
        now = self.clock()
        if now < self._due:
            return
        self._due, self._shown = now + EVERY, True
        part = min(1.0, done / most) if most > 0 else 0.0
        self.write(f"\r{f'{what}: {gauge(done, most)} {part:4.0%}':{WIDTH}}")

    def wipe(self) -> None:
        if self._shown:
            self.write(f"\r{'':{WIDTH}}\r")
            self._shown = False
