# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that are from the manual alone: no processor at hand has shown what they say.

All others were held against runs, on Bochs 2.7 or 3.0 (doc/support.md, "How far the predictions are
proven").  A rule is named here only where it decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gdb_nept.address import L2Phys, Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp, Misconfiguration, misconfigured
from gdb_nept.predict.access import Access, Stage
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.walk.result import Cause, Walk

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
    if eptp.levels > SHOWN_LEVELS and walk.steps:
        names.append(f"EPT of {eptp.levels} levels")
    if walk.stop is not None and walk.stop.cause is Cause.BEYOND_WIDTH:
        names.append("an address beyond the width of the EPT walk")
    if cpu.paging_write and walk.steps:
        names += _with_paging_write(walk, access, cpu)
    if found.reason is not None and access.asynchronous:
        names.append("an access asynchronous to instruction execution")
    if found.outcome is Outcome.SPP and access.nmi_unblocking:
        names.append("NMI unblocking due to IRET, told with an SPP-related event")
    return tuple(names)


def _with_paging_write(walk: Walk[L2Phys, Out], access: Access, cpu: Capabilities) -> Iterator[str]:
    """The rules of the EPT paging-write control, and of guest-paging verification with it."""
    last = walk.steps[-1]
    if walk.stop is None:
        writes = access.stage is Stage.WALK and last.entry.paging_write
        if writes and not walk.rights.write:
            yield "paging-write access"
        final = access.stage is Stage.FINAL
        if cpu.verify_guest_paging and final and last.entry.verify_guest_paging:
            yield "guest-paging verification"
    elif walk.stop.cause is Cause.MISCONFIGURED:
        why = misconfigured(last.entry, last.level, cpu)
        if why and why[0] is Misconfiguration.PAGING_WRITE_WITHOUT_READ:
            yield "paging-write access"
