# SPDX-License-Identifier: GPL-2.0-or-later
"""A real reflected exit against the prediction, and that the prediction does not know its answer.

L1 stands in its exit handler.  The bytes of vmcs12's exit fields are replaced on the way from the
snapshot: whoever peeks at them predicts something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.commands.check import check as check_command
from gdb_nept.commands.numbers import Usage
from gdb_nept.commands.output import Sink
from gdb_nept.commands.predict import predict as predict_command
from gdb_nept.judge.candidates import Lead, link_of, place_of
from gdb_nept.judge.check import Check, Finding, check
from gdb_nept.judge.features import kvm_model, named_model
from gdb_nept.judge.foresight import foresee
from gdb_nept.judge.ground import Ground, ground
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.nested.session import Session
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.kvm import Feature
from gdb_nept.predict.linear import LinearAccess, predict_linear
from gdb_nept.predict.model import Model, model
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.render.page import Status
from gdb_nept.render.prediction import LINES
from tests.context import OfSession
from tests.kernels import facts_of
from tests.overlay import opened

pytestmark = pytest.mark.bochs

REASON, QUALIFICATION, PHYSICAL, LINEAR = (
    "vm_exit_reason",
    "exit_qualification",
    "guest_physical_address",
    "guest_linear_address",
)


@lru_cache
def plain(snapshot: Path) -> tuple[Session, Chosen]:
    return opened(snapshot)


def told_by_l1(snapshot: Path) -> dict[str, Any]:
    lines = json.loads((snapshot / "facts.json").read_text())
    found: dict[str, Any] = next(line for line in lines if line.get("case") == "park")
    return found


def advanced(snapshot: Path) -> int:
    """Bits 11:9 of the exit that L1 saw: those of a processor and a KVM that tell them."""
    return int(told_by_l1(snapshot)["qualification"], 16) & 0xE00


def checked(
    snapshot: Path,
    poison: Mapping[str, int] | None = None,
    by: str = "kvm",
    entries: Mapping[int, int] | None = None,
) -> Check:
    session, chosen = opened(snapshot, poison, entries)
    return check(session, chosen, named_model(session, chosen, by))


def test_the_kernels_features_are_probed(exit_snapshot: Path) -> None:
    found = kvm_model(*plain(exit_snapshot))
    assert found.doubts == ()
    assert {each.feature for each in found.probes} == set(Feature)
    assert found.model.kvm.features == facts_of(exit_snapshot).features


@pytest.mark.parametrize("by", ["kvm", "kvm@bochs-2.7", "named", "sdm"])
def test_the_exit_that_l1_saw_agrees(exit_snapshot: Path, by: str) -> None:
    by = facts_of(exit_snapshot).model if by == "named" else by
    found, said = checked(exit_snapshot, by=by), told_by_l1(exit_snapshot)
    assert found.finding is Finding.AGREE
    assert hex(found.told.qualification) == said["qualification"]
    assert hex(found.place.gpa) == said["gpa"]
    first = found.agreeing[0].foreseen
    assert (first.access.op, first.access.stage, first.access.user) == (Op.WRITE, Stage.FINAL, True)
    assert not first.access.emulated
    entries = [hex(step.entry.value) for step in first.prediction.walk.steps]
    assert entries == said["entries"]


@pytest.mark.parametrize(
    "poison",
    [
        {REASON: 0x31},
        {REASON: 62},
        {QUALIFICATION: 0x182},
        {QUALIFICATION: 0},
        {REASON: 0x31, QUALIFICATION: 0xFFFF},
        {PHYSICAL: 0x2000000},
        {PHYSICAL: 0x2005108},
        {LINEAR: 0},
        {LINEAR: 0x2000108},
    ],
    ids=lambda poison: "-".join(f"{name}={number:#x}" for name, number in poison.items()),
)
def test_a_poisoned_exit_changes_no_prediction_and_is_reported(
    exit_snapshot: Path, poison: dict[str, int]
) -> None:
    dirty = opened(exit_snapshot, poison)
    names = ("sdm", "bochs-2.7", "kvm", "kvm@bochs-2.7", "v2-2012")
    assert untouched(exit_snapshot, names) == everything(dirty, names)
    found = check(*dirty)
    assert found.finding in (Finding.DIFFER, Finding.NO_EXIT)
    assert not found.agreeing


@lru_cache
def untouched(snapshot: Path, names: tuple[str, ...]) -> list[object]:
    return everything(plain(snapshot), names)


def everything(opened: tuple[Session, Chosen], names: tuple[str, ...]) -> list[object]:
    """Predictions of many accesses by all models, at physical and at linear addresses."""
    session, chosen = opened
    base, paging = ground(session, chosen), guest_registers(session, chosen).paging
    models = [named_model(session, chosen, name) for name in names]
    places = [*range(0x2000000, 0x2010000, 0x1108), 0x104001000, 1 << 40, 0x1002500]
    found: list[object] = [
        base.predict(Access(L2Phys(gpa), op, user, stage, emulated=emulated), each)
        for each in models
        for gpa in places
        for op in Op
        for stage in Stage
        for user in (False, True)
        for emulated in (False, True)
    ]
    found += [
        predict_linear(
            base.memory,
            base.eptp,
            LinearAccess(L2Virt(linear), 8, op, user=user),
            paging,
            base.cpu,
            base.controls,
            each,
        )
        for each in models
        for linear in (0x500002004108, 0x2004108, 0x2002FFC, 0x10000)
        for op in Op
        for user in (False, True)
    ]
    assert len(found) > 1000
    return found


def test_what_is_foreseen_does_not_depend_on_reason_and_qualification(exit_snapshot: Path) -> None:
    def foreseen(opened: tuple[Session, Chosen]) -> object:
        session, chosen = opened
        base, place = ground(session, chosen), place_of(session.vmcs12(chosen))
        link = link_of(base, place, guest_registers(session, chosen).paging)
        models = {"kvm": kvm_model(session, chosen).model, "sdm": model("sdm")}
        return foresee(base, place, link, models)

    poisoned = opened(exit_snapshot, {REASON: 0x31, QUALIFICATION: 0x3})
    assert foreseen(plain(exit_snapshot)) == foreseen(poisoned)


@pytest.mark.parametrize(
    ("poison", "says"),
    [
        ({QUALIFICATION: 0x3}, "2012"),
        ({QUALIFICATION: 0x3, LINEAR: 0}, "2012"),
        ({LINEAR: 0}, "the guest-linear address reaches vmcs12"),
    ],
)
def test_known_bugs_are_named(exit_snapshot: Path, poison: dict[str, int], says: str) -> None:
    found = checked(exit_snapshot, poison)
    assert found.finding is Finding.DIFFER
    assert any(says in text for text in found.explanations)


def test_the_stale_qualification_of_a_misconfiguration(exit_snapshot: Path) -> None:
    poison, entries = {REASON: 0x31, QUALIFICATION: 0x182}, {1: 0x1024032}  # W without R
    found = checked(exit_snapshot, poison, entries=entries)
    by_the_book = checked(exit_snapshot, poison, "sdm", entries)
    assert by_the_book.finding is Finding.DIFFER
    assert any(Feature.MISCONFIG_CLEARED.value in text for text in by_the_book.explanations)
    cleared = {**poison, QUALIFICATION: 0}
    assert checked(exit_snapshot, cleared, "sdm", entries).finding is Finding.AGREE
    if Feature.MISCONFIG_CLEARED in facts_of(exit_snapshot).features:  # 6.10
        assert found.finding is Finding.DIFFER
        assert any(Feature.MISCONFIG_CLEARED.value in text for text in found.explanations)
        assert checked(exit_snapshot, cleared, entries=entries).finding is Finding.AGREE
    else:
        assert found.finding is Finding.AGREE
        assert [Feature.MISCONFIG_CLEARED.value in text for text in found.departures] == [True]
        assert checked(exit_snapshot, cleared, entries=entries).finding is Finding.DIFFER


def test_rights_in_the_wrong_order(exit_snapshot: Path) -> None:
    """PDE R-W-no-X over PTE R-X: the AND is R, and with ACC flags mixed in, X."""
    entries, more = {2: 0xDF8103, 1: 0x1024135}, advanced(exit_snapshot)
    right, wrong = {QUALIFICATION: 0x18A | more}, {QUALIFICATION: 0x1A2 | more}
    assert checked(exit_snapshot, right, entries=entries).finding is Finding.AGREE
    found = checked(exit_snapshot, wrong, entries=entries)
    assert found.finding is Finding.DIFFER
    assert any(Feature.RIGHTS_OF_ENTRIES.value in text for text in found.explanations)


def test_a_fault_of_the_emulator(exit_snapshot: Path) -> None:
    """Its guest-physical address has lost the offset.  Bits 8:7 are an older exit's until KVM
    makes them for it; bit 0 says that it is also a read until KVM tells one kind."""
    features = facts_of(exit_snapshot).features
    write = 0x2A if Feature.ONE_KIND in features else 0x2B
    told = (0x180,) if Feature.LINEAR_SYNTHESISED in features else (0, 0x80, 0x180)
    for bits in {0, 0x100} - set(told):
        found = checked(exit_snapshot, {PHYSICAL: 0x2004000, QUALIFICATION: write | bits})
        assert (found.finding is Finding.DIFFER) == (Feature.LINEAR_SYNTHESISED in features)
    assert not checked(
        exit_snapshot, {PHYSICAL: 0x2004000, QUALIFICATION: write ^ 1 | 0x180}
    ).agreeing
    for bits in told:
        found = checked(exit_snapshot, {PHYSICAL: 0x2004000, QUALIFICATION: write | bits})
        assert found.finding is Finding.AGREE
        assert found.agreeing[0].foreseen.access.emulated
        assert found.link.lead is Lead.SAME_PAGE


def test_another_exit_is_not_checked(exit_snapshot: Path) -> None:
    found = checked(exit_snapshot, {REASON: 12})
    assert (found.finding, found.nearest) == (Finding.NOT_EPT, None)


def test_rights_that_allow_all_are_no_exit(exit_snapshot: Path) -> None:
    assert checked(exit_snapshot, {PHYSICAL: 0x2000000}).finding is Finding.NO_EXIT


def test_while_l2_runs_the_last_exit_is_another_one(plain_snapshot: Path) -> None:
    found = checked(plain_snapshot)
    assert found.finding is Finding.NOT_EPT
    assert any("L2 runs again" in note for note in found.notes)


def test_a_linear_access_leads_to_the_exit_that_happened(exit_snapshot: Path) -> None:
    session, chosen = plain(exit_snapshot)
    base, registers = ground(session, chosen), guest_registers(session, chosen)
    said = told_by_l1(exit_snapshot)
    found = predict_linear(
        base.memory,
        base.eptp,
        LinearAccess(L2Virt(int(said["gla"], 16)), 8, Op.WRITE, user=True),
        registers.paging,
        base.cpu,
        base.controls,
        named_model(session, chosen, "kvm@bochs-2.7"),
    )
    assert found.outcome is Outcome.VIOLATION
    assert found.prediction is not None
    assert hex(found.prediction.qualification) == said["qualification"]
    assert hex(found.prediction.gpa or 0) == said["gpa"]
    assert {register.origin for register in registers.registers} >= {"vmcs12.guest_cr3"}


class InLab(OfSession):
    """A Context of the snapshot."""

    def __init__(self, snapshot: Path, poison: Mapping[str, int] | None = None) -> None:
        super().__init__(opened(snapshot, poison)[0])


def test_the_commands_output(exit_snapshot: Path) -> None:
    context = InLab(exit_snapshot)
    text = predict_command.answer(context, ["0x2004108", "--write", "--user"], False)
    lines, told = text.splitlines(), 0x1AA | advanced(exit_snapshot)
    asked = hex(told & ~0xC00)  # what L2's own tables say is not asked of a physical address
    head = f"write of L2 0x2004108, user mode: EPT violation (exit 48), qualification {asked}"
    assert lines[0] == head
    assert lines[2].startswith("remedy:  set W in the PTE at")
    assert len(lines) <= LINES
    assert lines[-1].endswith("  <-")
    every = predict_command.answer(context, ["0x2004108", "--write", "--all"], False)
    assert " 16  asynchronous" in every
    data = json.loads(predict_command.answer(context, ["0x2004108", "--write", "--json"], False))
    assert (data["exit_reason"], data["exit_qualification"]) == (48, hex(told & ~0xE00))
    assert [row["bit"] for row in data["bits"]] == list(range(17))
    linear = ["0x500002004108", "--linear", "--write", "--user"]
    words = " ".join(predict_command.answer(context, linear, False).split())
    assert re.search(r"decided by the write of L2 physical 0x\w+, user mode; 4 before it go", words)
    words = " ".join(predict_command.answer(context, [*linear, "--all"], False).split())
    assert "went through before: read of a guest paging-structure entry at L2 physical" in words
    refused = predict_command.answer(context, ["0x700000000000", "--linear", "--json"], False)
    assert json.loads(refused)["outcome"] == "page_fault"
    first = check_command.answer(context, [], False).splitlines()[0]
    exit_told = f"EPT violation (exit 48), qualification {told:#x}, at L2 0x2004108"
    assert first == f"{exit_told}: agree"
    wrong = InLab(exit_snapshot, {QUALIFICATION: 0x3})
    text = check_command.answer(wrong, [], False)
    silent = Sink(lambda piece: None)
    assert check_command.write_answer(wrong, [], silent) is Status.DIFFERS
    assert check_command.write_answer(context, [], silent) is Status.DONE
    assert text.splitlines()[0].endswith(": differ")
    assert "2012" in text
    data = json.loads(check_command.answer(wrong, ["--json"], False))
    # bit 0 of a read-modify-write is the processor's, where KVM passes it on
    one_kind = Feature.ONE_KIND in facts_of(exit_snapshot).features
    differing = (told ^ 3) & ~(0 if one_kind else 1)
    assert (data["finding"], data["nearest"]["differing_bits"]) == ("differ", hex(differing))
    assert max(map(len, text.splitlines())) <= 100


def test_a_command_takes_one_kind_of_access(exit_snapshot: Path) -> None:
    with pytest.raises(Usage, match="one of --read"):
        predict_command.answer(InLab(exit_snapshot), ["0", "--read", "--write"], False)


def test_a_fault_that_agrees_is_put_to_two_models(
    exit_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What known mistakes would lead to is computed only to explain a difference."""
    asked, predict = set(), Ground.predict

    def counted(self: Ground, access: Access, model: Model) -> Prediction[L1Phys]:
        asked.add(model.name)
        return predict(self, access, model)

    monkeypatch.setattr(Ground, "predict", counted)
    found = checked(exit_snapshot, by="kvm-7.2")
    assert found.finding is Finding.AGREE
    assert found.processor is not None
    assert found.processor.agrees
    assert asked == {"kvm-7.2", "sdm"}


def test_what_is_asked_later_is_asked_of_the_tables_as_they_stood(exit_snapshot: Path) -> None:
    session, chosen = opened(exit_snapshot)
    base, place = ground(session, chosen), place_of(session.vmcs12(chosen))
    link = link_of(base, place, guest_registers(session, chosen).paging)
    memory, models = Going(base.memory), {name: model(name) for name in ("sdm", "kvm-4.8")}
    standing = replace(base, memory=memory).standing(place.gpa)
    memory.gone = True
    assert foresee(standing, place, link, models) == foresee(base, place, link, models)


class Going:
    """A memory that nobody may read any more once it is `gone`."""

    def __init__(self, below: PhysicalMemory[L1Phys]) -> None:
        self.below, self.gone = below, False

    def read(self, address: L1Phys, size: int) -> bytes:
        assert not self.gone
        return self.below.read(address, size)
