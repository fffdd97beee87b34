# SPDX-License-Identifier: GPL-2.0-or-later
"""kvm-unit-tests' accesses to L2's own page tables, each through the whole of predict_linear()."""

from __future__ import annotations

import pytest

from gdb_nept.address import L1Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import Eptp
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Controls, Op, Stage
from gdb_nept.predict.linear import LinearAccess, LinearPrediction, predict_linear
from gdb_nept.predict.model import model
from gdb_nept.predict.outcome import Outcome
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging
from tests.predict.ept_access import CAPS, EXECUTE_ONLY, LINEAR, MISCONFIG, READ, WIDTH
from tests.predict.ept_paddr import DATA, GUEST_ROOT, OPS, PTE, TRIPLES, Triple, triples
from tests.predict.test_ept_access import OPEN

LONG = GuestPaging(Cr0(1 << 31), GUEST_ROOT, Cr4(1 << 5), Efer(1 << 10), 39)
RIGHTS_AND_KIND = 0x1BF


def found(triple: Triple, name: str) -> LinearPrediction:
    memory: SparseMemory[L1Phys] = SparseMemory(triple.words)
    cpu = Capabilities(WIDTH, EptVpidCap(CAPS | EXECUTE_ONLY), triple.mbec)
    op = Op(triple.op.split()[-1])
    access = LinearAccess(L2Virt(0), 1, op, user=triple.op == "user fetch")
    return predict_linear(memory, Eptp(triple.eptp), access, LONG, cpu, Controls(), model(name))


def problem(triple: Triple, answer: LinearPrediction, name: str) -> str:
    """What is wrong with an answer, or ''."""
    reason, qualification, left_open = triple.due
    prediction = answer.prediction
    if prediction is None or answer.access is None:
        return "no prediction"
    if prediction.reason != reason:
        return f"reason {prediction.reason}, not {reason}"
    if reason is None:
        return "" if prediction.hpa == DATA else f"{answer.outcome} at {prediction.hpa}"
    if (answer.access.stage, prediction.gpa) != (Stage.WALK, PTE):
        return f"{answer.access}, {prediction.gpa}"
    if reason == MISCONFIG:
        return "" if prediction.qualification == 0 else "a misconfiguration has qualification 0"
    mask = prediction.mask
    may_leave_open, _ = OPEN[name]
    defined = RIGHTS_AND_KIND | (1 << 6 if triple.mbec else 0)
    if defined & ~mask & ~(left_open if may_leave_open else 0):
        return f"mask {mask:#x}"
    if prediction.gla != 0:
        return f"linear address {prediction.gla}"
    differing = (prediction.qualification ^ qualification) & mask
    return f"qualification {prediction.qualification:#x}" if differing else ""


@pytest.mark.parametrize("name", OPEN)
def test_every_combination_is_as_the_manual_says(name: str) -> None:
    every = list(triples())
    assert len(every) == len(set(every)) == 384
    wrong = [
        (each, each.due, said) for each in every if (said := problem(each, found(each, name), name))
    ]
    assert not wrong, (len(wrong), wrong[:5])


def test_the_manual_agrees_with_kvm_unit_tests() -> None:
    for (rights, own, flags), due in TRIPLES.items():
        for op, qualification in zip(OPS, due):
            for mbec in (False, True):
                reason, told, _ = Triple(rights, flags, op, own, mbec).due
                assert (reason is None) is (qualification is None)
                assert qualification is None or told == qualification | LINEAR


def test_an_answer_that_is_another_triples_is_wrong() -> None:
    """The update's violation is not the read's, and the other way round."""
    once = Triple(1, 1 << 5, "read", ept_flags=False)
    update = Triple(1, 0, "read", ept_flags=False)
    assert (once.updates, update.updates) == (False, True)
    assert found(once, "sdm").outcome is Outcome.TRANSLATED
    assert "reason" in problem(update, found(once, "sdm"), "sdm")
    assert "reason" in problem(once, found(update, "sdm"), "sdm")
    by_sdm = found(update, "sdm")
    assert by_sdm.prediction is not None
    assert not by_sdm.prediction.mask & READ
    assert not problem(update, by_sdm, "sdm")
    assert "mask" in problem(update, by_sdm, "kvm-7.2")
