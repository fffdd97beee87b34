# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that are from the manual alone: no processor at hand has shown what they say.

All others were held against runs, on Bochs 2.7 or 3.0 (doc/support.md, "How far the predictions are
proven").  A rule is named here only where it decides.
"""

from __future__ import annotations

from dataclasses import replace

from gdb_nept.address import Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import EptEntry, Eptp, Misconfiguration, misconfigured
from gdb_nept.predict.access import Access, Stage
from gdb_nept.predict.outcome import Prediction
from gdb_nept.walk.result import Cause

SHOWN_LEVELS = 4  # of the EPTs that were run


def with_never_run(
    found: Prediction[Out], access: Access, eptp: Eptp, cpu: Capabilities
) -> Prediction[Out]:
    """`found` with the names of such rules."""
    names = never_run(found, access, eptp, cpu)
    return replace(found, never_run=names) if names else found


def never_run(
    found: Prediction[Out], access: Access, eptp: Eptp, cpu: Capabilities
) -> tuple[str, ...]:
    """In words, such as 'EPT of 5 levels'."""
    walk, names = found.walk, []
    last = walk.steps[-1] if walk.steps else None
    leaf = last.entry if last is not None else EptEntry(0)
    if eptp.levels > SHOWN_LEVELS and walk.steps:
        names.append(f"EPT of {eptp.levels} levels")
    if walk.stop is not None and walk.stop.cause is Cause.BEYOND_WIDTH:
        names.append("an address beyond the width of the EPT walk")
    if walk.stop is None:
        if cpu.paging_write and access.stage is Stage.WALK and leaf.paging_write:
            names += [] if walk.rights.write else ["paging-write access"]
        final = access.stage is Stage.FINAL
        if cpu.verify_guest_paging and cpu.paging_write and final and leaf.verify_guest_paging:
            names.append("guest-paging verification")
    elif walk.stop.cause is Cause.MISCONFIGURED and last is not None:
        why = misconfigured(last.entry, last.level, cpu)
        if why and why[0] is Misconfiguration.PAGING_WRITE_WITHOUT_READ:
            names.append("paging-write access")
    if found.reason is not None and access.asynchronous:
        names.append("an access asynchronous to instruction execution")
    if found.reason is not None and access.nmi_unblocking:
        names.append("NMI unblocking due to IRET")
    return tuple(names)
