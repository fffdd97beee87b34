# SPDX-License-Identifier: GPL-2.0-or-later
"""Rights and ways in words, for verdicts."""

from __future__ import annotations

from gdb_nept.address import HostPhys
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.ept import EptEntry
from gdb_nept.nested.journey import Journey

ALL = ("read", "write", "fetch")
BY_MODE = ("supervisor fetch", "user fetch")  # two rights, with mode-based execute control
FETCHES = {"fetch", *BY_MODE}


def allowed_by(rights: EptEntry, mbec: bool = False) -> set[str]:
    """'read', 'write', and 'fetch' or, with mode-based execute control, BY_MODE."""
    given = {"read": rights.read, "write": rights.write}
    if mbec:
        given.update(zip(BY_MODE, (rights.execute, rights.user_execute)))
    else:
        given["fetch"] = rights.execute
    return {name for name, allowed in given.items() if allowed}


def either(names: set[str]) -> str:
    """'read or write'; a fetch in either mode is just a fetch."""
    if names.issuperset(BY_MODE):
        names = names.difference(BY_MODE) | {"fetch"}
    return " or ".join(name for name in (*ALL, *BY_MODE) if name in names)


def ways(journey: Journey, host: HostPhys) -> str:
    """Which ways lead to `host`."""
    if journey.through_ept01 is None:
        why = "is not there" if journey.ept01 is None else "does not map it yet"
        return f"EPT12 and KVM's shadow lead to host physical {host:#x}; EPT01 {why}"
    return f"all ways lead to host physical {host:#x}"


def l1_withholds(journey: Journey) -> str:
    """What L1 must see, at the end of a sentence; '' if it allows everything."""
    everything = allowed_by(EptEntry(ALL_BITS), journey.mbec)
    lacking = everything - allowed_by(journey.ept12.rights, journey.mbec)
    return f"; a {either(lacking)} is an EPT violation that L1 must see" if lacking else ""
