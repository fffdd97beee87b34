# SPDX-License-Identifier: GPL-2.0-or-later
"""The controls of a live L2 that a prediction goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdb_nept.judge.oracle import oracle
from gdb_nept.predict.access import Access, Op
from tests.nested.kinds_of_state import State
from tests.nested.states import Machine

pytestmark = pytest.mark.bochs

DEFAULT1, NMI_EXITING, VIRTUAL_NMIS = 0x16, 1 << 3, 1 << 5
NMI_UNBLOCKING = 1 << 12


@pytest.mark.parametrize(
    ("pin", "claimed", "refused"),
    [
        (0, True, False),
        (NMI_EXITING, False, False),
        (NMI_EXITING | VIRTUAL_NMIS, True, False),
        (VIRTUAL_NMIS, True, True),
    ],
)
def test_bit_12_follows_the_controls_about_nmis(
    plain_snapshot: Path, pin: int, claimed: bool, refused: bool
) -> None:
    """SDM vol. 3, June 2026, 30.2.3 and 29.2.1.1."""
    machine = Machine(plain_snapshot)
    State("hole").make(machine)
    machine.vmcs12("pin_based_vm_exec_control", DEFAULT1 | pin)
    asked = oracle(machine.session, machine.chosen, "sdm")
    found = asked.physical(Access(machine.asked, Op.READ))
    assert bool(found.mask & NMI_UNBLOCKING) is claimed
    assert ("NMI exiting" in asked.refusal) is refused
