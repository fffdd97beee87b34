# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dump tells of a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Registers:
    """None: not told.  kdump's notes have no CR3."""

    rip: int | None
    rsp: int | None
    cr3: int | None
