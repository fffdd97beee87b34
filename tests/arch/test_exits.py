# SPDX-License-Identifier: GPL-2.0-or-later
"""Exit qualifications in words (SDM vol. 3, chapter "VM Exits")."""

from __future__ import annotations

import pytest

from gdb_nept.arch.exits import ApicAccess, ExitReason


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0x0080, "a data read at offset 0x80 of the APIC-access page"),
        (0x1300, "a data write at offset 0x300 of the APIC-access page"),
        (0x2FFF, "an instruction fetch at offset 0xfff of the APIC-access page"),
        (0x3010, "an access during event delivery at offset 0x10 of the APIC-access page"),
        (0xA080, "a guest-physical access during event delivery"),  # no offset there
        (0x1F000, "a guest-physical access for an instruction, or its fetch"),
        (0x4020, "an access for monitoring at offset 0x20 of the APIC-access page"),
        (0xB000, "a guest-physical access for monitoring or trace"),
        (0x5080, "an access of no possible kind"),
    ],
)
def test_an_apic_access_says_its_kind(value: int, says: str) -> None:
    assert ApicAccess(value).says == says
    assert ApicAccess(value).defined is (value >> 12 & 0xF in {0, 1, 2, 3, 4, 10, 11, 15})


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (48, False),
        (33, False),  # as it is noted down, without bit 31
        (0x8000_0021, False),
        (0x8000_0022, False),
        (0x8000_0029, False),
        (0x8000_0030, True),
        (0x8800_0031, True),
    ],
)
def test_vm_entry_fails_with_few_reasons(value: int, wrong: bool) -> None:
    assert bool(ExitReason(value).problem) is wrong
