# SPDX-License-Identifier: GPL-2.0-or-later
"""What the three ways of a journey mean together, in words, and who is at fault.

A disagreement has a meaning by what KVM does (arch/x86/kvm/mmu/mmu.c) and by what it keeps: it
fills its shadow at the first access; it lets L1 write the tables of level 1 and looks at them again
at INVEPT (`unsync`), and intercepts every write to those above; an MMU notifier tells it when the
host takes a page away.  The parts are in nested/identity.py, unmapped.py and shadowed.py.
"""

from __future__ import annotations

from gdb_nept.nested.agreement import Agreement, Fault, Verdict, blamed
from gdb_nept.nested.blame import MISSED_NOTIFIER
from gdb_nept.nested.identity import misfit, without_dropped_root
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.shadowed import compared
from gdb_nept.nested.unmapped import being_changed, hidden, not_backed, outside, stopped
from gdb_nept.walk.result import Cause, Stop


def verdict(journey: Journey) -> Verdict:
    """Look at the ways in their order; the first thing that does not fit is the verdict."""
    if journey.refusal:
        return Verdict(
            Agreement.REFUSED,
            f"VM entry refuses this EPTP ({journey.refusal}), so that no L2 runs with it; what "
            "these tables say has no effect",
            Fault.L1,
            "no EPTP like this passes the checks of VM entry (nested_vmx_check_eptp())",
        )
    journey = without_dropped_root(journey)
    return misfit(journey) or _through_ept12(journey)


def _through_ept12(journey: Journey) -> Verdict:
    stop, address = journey.ept12.stop, journey.ept12.address
    if stop is not None or address is None:
        return stopped(journey, stop or Stop(Cause.UNREADABLE, 0, "the walk has no end"))
    if journey.slot is None:
        return outside(journey, address)
    if journey.slot.flags.invalid:
        return being_changed(journey, journey.slot)
    if journey.hidden:
        return hidden(journey, address)
    host = journey.host_physical
    if host is None:
        return not_backed(journey)
    found = compared(journey, host)
    through = journey.through_ept01
    if found.agreement in (Agreement.STALE, Agreement.BROKEN) or through in (None, host):
        return found
    return blamed(
        Agreement.STALE,
        f"the host's page is {host:#x}, but EPT01, KVM's table for L1, leads to {through:#x}",
        MISSED_NOTIFIER,
    )
