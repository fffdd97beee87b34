# SPDX-License-Identifier: GPL-2.0-or-later
"""The words that have named bits, each under the name that a user gives it."""

from __future__ import annotations

from gdb_nept.arch import controls, cpu, ept, exits, paging, vmcs
from gdb_nept.arch.bits import Word

WORDS: dict[str, type[Word]] = {
    "eptp": ept.Eptp,
    "ept": ept.EptEntry,
    "qualification": exits.EptViolation,
    "apic-access": exits.ApicAccess,
    "exit-reason": exits.ExitReason,
    "pin-controls": controls.PinControls,
    "primary-controls": controls.PrimaryControls,
    "secondary-controls": controls.SecondaryControls,
    "tertiary-controls": controls.TertiaryControls,
    "exit-controls": controls.ExitControls,
    "secondary-exit-controls": controls.SecondaryExitControls,
    "entry-controls": controls.EntryControls,
    "ept-vpid-cap": cpu.EptVpidCap,
    "field": vmcs.Encoding,
    "paging": paging.Entry,
}
