# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong in the lab, said so that it can be shown as it stands."""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """The lab cannot go on; the message says why, for the person at the terminal."""


class BootFailed(LabError):
    """The machine never reached its park point; carries the end of its console."""

    def __init__(self, reason: str, console: Sequence[str] = ()) -> None:
        self.reason = reason
        self.console = tuple(console)
        super().__init__(reason)

    def __str__(self) -> str:
        if not self.console:
            return self.reason
        lines = "\n".join(f"  | {line}" for line in self.console)
        return f"{self.reason}\nthe console's last {len(self.console)} lines:\n{lines}"


class BochsDied(LabError):
    """Bochs ended while it was being driven."""
