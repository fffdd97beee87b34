# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of a target one command looks at.

The memory of a crashed machine, or of a guest that means harm, can lead to itself for ever: what
bounds the work is what is looked at, not what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

ENTRIES = 1 << 22  # 8,192 whole tables; a second or two


@dataclass
class Budget:
    """Entries that may be looked at, and that were."""

    limit: int = ENTRIES
    used: int = 0
    tables: int = 0

    def take(self, entries: int) -> bool:
        """Whether a table of so many entries may still be looked at."""
        if self.used + entries > self.limit:
            return False
        self.used += entries
        self.tables += 1
        return True

    @property
    def spent(self) -> str:
        """What was looked at, once that is all."""
        return (
            f"after {self.used} entries in {self.tables} tables (--limit {4 * self.limit} for more)"
        )
