# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of the host's that cannot be read is no page that the host lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gdb_nept.address import L2Phys
from gdb_nept.errors import UnreadKind
from gdb_nept.nested.agreement import Agreement, Fault
from gdb_nept.nested.verdict import verdict
from tests.overlay import opened

pytestmark = pytest.mark.bochs


def test_what_cannot_be_read_is_not_told_as_not_backed(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    journey = session.journey(chosen, L2Phys(0x2000000))
    assert journey.host is not None
    for kind, told in (
        (UnreadKind.FILTERED, Agreement.UNREADABLE),
        (UnreadKind.CUT, Agreement.UNREADABLE),
        (UnreadKind.NOT_MAPPED, Agreement.NOT_BACKED),
        (UnreadKind.SWAPPED, Agreement.NOT_BACKED),
    ):
        host = replace(journey.host, physical=None, why="a reason", unread=kind)
        found = verdict(replace(journey, host=host, shadow=None, ept01=None))
        assert found.agreement is told
        assert "a reason" in found.sentence
        assert (found.fault is Fault.UNKNOWN) is (told is Agreement.UNREADABLE)
