# SPDX-License-Identifier: GPL-2.0-or-later
"""vmcs12 in each state against L1's VMREADs, and what the controls make of L2's registers."""

from __future__ import annotations

from pathlib import Path

import pytest
from bochs_lab.options import STATES

from gdb_nept.kvm.authority import Authority
from tests.states.opened import L1_RUNS, State, at
from tests.states.told import Told

pytestmark = pytest.mark.bochs

GUEST_PAT = 0x2804
L2_MADE = ("efer", "pat", "dr7")  # behind the points of the controls; Bochs has no debug control


@at(*L1_RUNS)
def test_vmcs12_is_what_l1_reads(state: State) -> None:
    vmcs12 = state.session.vmcs12(state.chosen)
    read = state.told.vmcs(state.name)
    fields = [each for each in vmcs12.fields if each.encoding in read]
    sure = [
        each for each in fields if each.authority in (Authority.AUTHORITATIVE, Authority.LAST_EXIT)
    ]
    assert len(sure) > 80
    assert {each.name: hex(each.value) for each in sure} == {
        each.name: hex(read[each.encoding]) for each in sure if each.encoding is not None
    }


@at(*(name for name in STATES if name not in L1_RUNS))
def test_what_is_sure_of_vmcs12_is_what_l1_read_before(state: State) -> None:
    """L2 runs: what has not changed since L1 entered it is sure; and the PAT that L2 has made,
    where it is to be saved: KVM intercepts that, and L1 reads it after the exit."""
    vmcs12 = state.session.vmcs12(state.chosen)
    read = state.told.vmcs(state.name)
    if state.name == "controls-on":
        read[GUEST_PAT] = state.told.vmcs("controls-on-exit")[GUEST_PAT]
    sure = [
        each
        for each in vmcs12.fields
        if each.encoding in read
        and each.authority in (Authority.AUTHORITATIVE, Authority.LAST_EXIT)
    ]
    assert len(sure) > 50
    assert {each.name: hex(each.value) for each in sure} == {
        each.name: hex(read[each.encoding]) for each in sure if each.encoding is not None
    }


@at(*(name for name in STATES if name not in L1_RUNS))
def test_whether_l2_runs(state: State) -> None:
    nested = state.chosen.vcpu.nested
    assert nested is not None
    assert nested.l2_active
    assert nested.disagreement == ""


@at(*L1_RUNS)
def test_whether_l1_runs(state: State) -> None:
    nested = state.chosen.vcpu.nested
    assert nested is not None
    assert not nested.l2_active
    assert nested.disagreement == ""


@at("controls-off", "controls-off-exit", "controls-on", "controls-on-exit")
def test_a_register_is_sure_only_where_it_is_l2s(state: State) -> None:
    """L2 has made other values of these; vmcs12 has them only where they are saved, and of those
    that KVM does not intercept only after the exit."""
    vmcs12 = state.session.vmcs12(state.chosen)
    rows = {row["control"]: row for row in state.told.lines if row.get("control") in L2_MADE}
    saved = state.name == "controls-on-exit"
    for name, row in rows.items():
        field = vmcs12.find(row["field"])
        assert field is not None
        if field.authority is Authority.AUTHORITATIVE:
            assert hex(field.value) == row["l2_made"], name
        else:
            assert not saved, (name, field.why)
    assert len(rows) == len(L2_MADE)


def test_controls_decide_about_the_fields(states: dict[str, Path]) -> None:
    """The log's own arithmetic: loaded or L1's own at entry, saved or as L1 wrote it after."""
    rows = [line for line in Told.by(states["done"]).lines if "control" in line]
    assert len(rows) == 19
    kept = [row for row in rows if row["control"] in L2_MADE]
    for row in kept:
        assert row["vmread"] == (row["l2_made"] if row["save"] else row["written"])
        own = {"efer": "0x500", "pat": "0x7040600070406", "dr7": "0x400"}[row["control"]]
        assert row["l2_saw"] == (row["written"] if row["load"] else own)
    timer = [row for row in rows if row["control"] == "timer"]
    for row in timer:
        assert (row["vmread"] == row["written"]) != row["save"]
