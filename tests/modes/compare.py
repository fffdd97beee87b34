# SPDX-License-Identifier: GPL-2.0-or-later
"""A record of modes.c against a prediction: the exit, and what the access left behind."""

from __future__ import annotations

from collections.abc import Sequence

from gdb_nept.predict.outcome import Outcome
from tests.modes.landscape import PAGE
from tests.modes.machine import ModesMachine, Step
from tests.modes.run import ModesRecord
from tests.modes.scenario import FETCH, READ, RMW, STACK_READ, Case
from tests.proof.compare import differences as exit_differences

SIGNATURE = 0x4E00_0000


def differences(
    machine: ModesMachine, case: Case, record: ModesRecord, steps: Sequence[Step]
) -> tuple[str, ...]:
    """What the record says otherwise; the exit alone decides if it is another one."""
    found = steps[-1].found
    names = exit_differences(record.usual, found, entries=False)
    if names:
        return names
    expected = machine.entries_after(case, steps)
    if expected != list(record.entries[: len(expected)]):
        names += ("flags of L2's entries",)
    if found.outcome is not Outcome.TRANSLATED:
        return names + (("a page that was written",) if record.written else ())
    prediction = found.prediction
    assert prediction is not None
    assert prediction.hpa is not None
    page = prediction.hpa & -PAGE
    if record.written != (0 if case.op in (READ, FETCH, STACK_READ) else page):
        names += ("the page that was written",)
    if case.op in (READ, RMW, FETCH) and record.usual.value != SIGNATURE | page // PAGE:
        names += ("the page that was read",)
    return names
