# SPDX-License-Identifier: GPL-2.0-or-later
"""How the memory that is read was taken, as far as that changes what an answer means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Vmcss(Enum):
    """What became of the VMCSs that were loaded in the processors."""

    CLEARED = "cleared"  # by the host's own crash kernel (kdump)
    KEPT = "kept"  # a hypervisor below the host took the dump
    UNKNOWN = "unknown"  # a dump of whose maker nothing tells


@dataclass(frozen=True)
class Taken:
    """`live`: from the machine that this runs on, which went on meanwhile.  `vmcss` is None of what
    is no dump of a crash, or an image whose maker is not in question."""

    live: bool = False
    vmcss: Vmcss | None = None
