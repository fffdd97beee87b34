# SPDX-License-Identifier: GPL-2.0-or-later
"""L2's registers by the controls in force, on a real memory with single words replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.arch.paging import PAGING_4, PAGING_PAE
from gdb_nept.commands.written import check_registers
from gdb_nept.errors import BadInput, NoGuest
from gdb_nept.judge.check import Finding, check
from gdb_nept.judge.ground import ground
from gdb_nept.judge.oracle import oracle
from gdb_nept.kvm.authority import Authority
from gdb_nept.kvm.guest_state import Writes
from gdb_nept.kvm.vcpu import IN_GUEST_MODE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.nested.listing import listing
from gdb_nept.nested.session import Session
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.linear import LinearAccess
from gdb_nept.predict.outcome import Outcome
from gdb_nept.render.prediction import linear_page
from gdb_nept.render.text import draw
from gdb_nept.target.running import Selected
from tests.overlay import opened

pytestmark = pytest.mark.bochs

LOAD_EFER, SAVE_EFER, LONG = 1 << 15, 1 << 20, 1 << 9
LME, LMA, NXE, SCE = 1 << 8, 1 << 10, 1 << 11, 1
PAE = 1 << 5
LASS = 1 << 27


def controls(snapshot: Path, load: bool, save: bool) -> dict[str, int]:
    """The lab's controls with EFER loaded and saved as asked."""
    session, chosen = opened(snapshot)
    vmcs12 = session.vmcs12(chosen)
    return {
        "vm_entry_controls": vmcs12.entry.value & ~LOAD_EFER | (LOAD_EFER if load else 0),
        "vm_exit_controls": vmcs12.exit.value & ~SAVE_EFER | (SAVE_EFER if save else 0),
    }


def efer_of(session: Session, chosen: Chosen) -> tuple[int, str, str]:
    found = guest_registers(session, chosen)
    one = next(one for one in found.registers if one.name == "efer")
    assert found.paging.efer.value == one.number
    return one.number, one.origin, one.doubt


@pytest.mark.parametrize("held", [0, 0x123, NXE])
def test_efer_neither_loaded_nor_saved_is_l1s(exit_snapshot: Path, held: int) -> None:
    poison = {**controls(exit_snapshot, False, False), "guest_ia32_efer": held}
    session, chosen = opened(exit_snapshot, poison)
    own = chosen.vcpu.register("efer")
    assert own
    number, origin, doubt = efer_of(session, chosen)
    assert number == own.number | LME | LMA
    assert "nested_vmx_calc_efer()" in origin
    assert doubt == ""
    field = session.vmcs12(chosen).field("guest_ia32_efer")
    assert field.authority is Authority.STALE
    assert check(session, chosen).finding is Finding.AGREE


def test_efer_of_an_l2_outside_ia_32e_mode(exit_snapshot: Path) -> None:
    poison = controls(exit_snapshot, False, False)
    poison["vm_entry_controls"] &= ~LONG
    session, chosen = opened(exit_snapshot, poison)
    own = chosen.vcpu.register("efer")
    assert own
    assert efer_of(session, chosen)[0] == own.number & ~(LME | LMA)
    assert guest_registers(session, chosen).paging.mode is PAGING_PAE


@pytest.mark.parametrize(("load", "save"), [(True, False), (False, True), (True, True)])
def test_efer_loaded_or_saved_is_in_vmcs12(exit_snapshot: Path, load: bool, save: bool) -> None:
    held = LMA | LME | NXE | SCE
    poison = {**controls(exit_snapshot, load, save), "guest_ia32_efer": held}
    session, chosen = opened(exit_snapshot, poison)
    assert efer_of(session, chosen) == (held, "vmcs12.guest_ia32_efer", "")
    field = session.vmcs12(chosen).field("guest_ia32_efer")
    assert field.authority is Authority.AUTHORITATIVE


def test_a_list_of_msrs_to_load_makes_efer_doubtful(exit_snapshot: Path) -> None:
    poison = {**controls(exit_snapshot, False, False), "vm_entry_msr_load_count": 2}
    assert "2 MSRs loaded at VM entry" in efer_of(*opened(exit_snapshot, poison))[2]


@pytest.mark.parametrize("load", [False, True])
def test_while_l2_runs_efer_is_kvms(plain_snapshot: Path, load: bool) -> None:
    poison = {**controls(plain_snapshot, load, load), "guest_ia32_efer": 0x123}
    session, chosen = opened(plain_snapshot, poison)
    own = chosen.vcpu.register("efer")
    assert own
    assert efer_of(session, chosen) == (own.number, "kvm_vcpu_arch.efer", "")
    assert session.vmcs12(chosen).field("guest_ia32_efer").authority is Authority.STALE


def test_how_this_kernel_writes_back_is_probed(plain_snapshot: Path) -> None:
    release = json.loads((plain_snapshot / "meta.json").read_text())["release"]
    session, chosen = opened(plain_snapshot)
    assert chosen.vcpu.nested
    new = not release.startswith("5.10")
    assert chosen.vcpu.nested.writes == Writes(at_wrmsr=True, bndcfgs_at_wrmsr=new)
    assert session.vmcs12(chosen).situation.writes == chosen.vcpu.nested.writes


# -- L1 writes a VMCS through its hardware shadow VMCS ------------------------------------------


@pytest.mark.parametrize("primary", [0, 0x0401E172])
def test_stale_primary_controls_do_not_hide_ept12(exit_snapshot: Path, primary: int) -> None:
    plain_session, plain_chosen = opened(exit_snapshot)
    session, chosen = opened(exit_snapshot, {"cpu_based_vm_exec_control": primary})
    vmcs12 = session.vmcs12(chosen)
    assert vmcs12.field("cpu_based_vm_exec_control").authority is Authority.MAYBE_STALE
    assert vmcs12.field("secondary_vm_exec_control").authority is Authority.AUTHORITATIVE
    (caveat,) = vmcs12.caveats
    assert f"{primary:#x}" in caveat
    assert "maybe stale" in caveat
    place = L2Phys(0x2004108)
    journey = session.journey(chosen, place)
    assert journey.ept12 == plain_session.journey(plain_chosen, place).ept12
    assert caveat in journey.notes
    assert caveat in listing(session, chosen, Which.L1).notes
    asked = oracle(session, chosen, "kvm")
    assert caveat in asked.doubts
    assert asked.physical(Access(place, Op.WRITE)).outcome is Outcome.VIOLATION
    found = check(session, chosen)
    assert found.finding is Finding.AGREE
    assert caveat in found.notes
    assert plain_session.vmcs12(plain_chosen).caveats == ()


@pytest.mark.parametrize(
    ("runs", "poison"),
    [
        ("l2", {"cpu_based_vm_exec_control": 0x0401E172}),
        ("l1", {"cpu_based_vm_exec_control": 0, "secondary_vm_exec_control": 1 << 5}),
    ],
)
def test_controls_that_are_known_decide(
    plain_snapshot: Path, exit_snapshot: Path, runs: str, poison: dict[str, int]
) -> None:
    session, chosen = opened(plain_snapshot if runs == "l2" else exit_snapshot, poison)
    with pytest.raises(NoGuest, match="without EPT") as raised:
        session.ept(chosen, Which.L1)
    assert "stale" not in str(raised.value)


# -- PDPTE registers ----------------------------------------------------------------------------


def test_only_an_l2_with_pae_loads_pdptes(exit_snapshot: Path) -> None:
    """A qualification that has lost bits 8:7 is that of a PDPTE load."""
    entries = {1: 0x1024030}  # nothing allowed
    poison = {"exit_qualification": 0x1, "guest_linear_address": 0}
    of_64_bits = check(*opened(exit_snapshot, poison, entries))
    assert of_64_bits.finding is Finding.DIFFER
    stages = {each.foreseen.access.stage for each in of_64_bits.agreeing}
    assert Stage.PDPTE not in stages
    narrow = controls(exit_snapshot, True, True)
    narrow["vm_entry_controls"] &= ~LONG
    session, chosen = opened(exit_snapshot, {**poison, **narrow, "guest_ia32_efer": 0}, entries)
    assert ground(session, chosen).pae is True
    with_pae = check(session, chosen)
    assert with_pae.finding is Finding.AGREE
    assert with_pae.agreeing[0].foreseen.access.stage is Stage.PDPTE


def test_the_mode_of_a_running_l2(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    assert session.vmcs12(chosen).pae is False
    assert guest_registers(session, chosen).paging.mode is PAGING_4


# -- addresses ----------------------------------------------------------------------------------


def test_an_address_that_is_not_canonical(exit_snapshot: Path) -> None:
    session, chosen = opened(exit_snapshot)
    asked, paging = oracle(session, chosen, "kvm"), guest_registers(session, chosen).paging
    access = LinearAccess(L2Virt(0x1234_0000_0000_0000), 8, Op.READ)
    assert asked.linear(access, paging).outcome is Outcome.GENERAL_PROTECTION


def test_what_lass_refuses_is_told_to_be_from_the_manual(exit_snapshot: Path) -> None:
    before, chosen = opened(exit_snapshot)
    cr4 = before.vmcs12(chosen).number("guest_cr4") | LASS
    session, chosen = opened(exit_snapshot, {"guest_cr4": cr4})
    asked, registers = oracle(session, chosen, "sdm"), guest_registers(session, chosen)
    page = linear_page(LinearAccess(L2Virt(0x1000000), 1, Op.FETCH), registers, asked)
    assert page.data["outcome"] == "general_protection"
    assert page.data["never_run"] == ["linear-address-space separation"]
    assert "from the manual, never run: linear-address" in draw(page)


class Stands:
    """As much of a Context as is asked: gdb stands on a processor."""

    def __init__(self, selected: Selected) -> None:
        self._selected = selected

    def selected(self) -> Selected:
        return self._selected


def taken(session: Session, chosen: Chosen, written: str, selected: Selected) -> str:
    """'' if gdb's registers are taken for L2's, else what is said."""
    try:
        check_registers(Stands(selected), session, chosen, written)  # type: ignore[arg-type]
    except BadInput as error:
        return str(error)
    return ""


def test_gdbs_registers_are_l2s_only_where_the_processor_runs_it(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    cpu, l2s = chosen.vcpu.cpu, session.vmcs12(chosen).number("guest_cr3")
    assert "L0 does" in taken(session, chosen, "$rsp+8", Selected(cpu, l2s))
    chosen = replace(chosen, vcpu=replace(chosen.vcpu, mode=IN_GUEST_MODE))
    assert chosen.owner.mm_pgd
    process = int(session.kernel.to_physical(chosen.owner.mm_pgd))
    assert taken(session, chosen, "$rsp+8", Selected(cpu, l2s)) == ""
    assert taken(session, chosen, "$rsp+8", Selected(cpu)) == ""
    assert taken(session, chosen, "0x1000+$a", Selected(cpu + 1)) == ""
    for selected, says in (
        (Selected(cpu + 1, l2s), f"gdb stands on CPU {cpu + 1}"),
        (Selected(cpu, process), "CR3 is that of the process that runs L1"),
        (Selected(cpu, process | 1 << 12), "CR3 is that of the process that runs L1"),
        (Selected(cpu, 0), "CR3 is 0"),
        (Selected(None), "tasks of L0's"),
    ):
        assert says in taken(session, chosen, "$rsp+8", selected)


def test_where_l1_runs_l2s_own_are_offered(exit_snapshot: Path) -> None:
    session, chosen = opened(exit_snapshot)
    vmcs12 = session.vmcs12(chosen)
    said = taken(session, chosen, "$sp", Selected(chosen.vcpu.cpu))
    assert said.startswith("$rsp: not of L2")
    assert "is not active" in said
    assert f"L2's own rsp: {vmcs12.number('guest_rsp'):#x} (vmcs12.guest_rsp" in said
    assert f"L2's own rip: {vmcs12.number('guest_rip'):#x} (vmcs12.guest_rip" in said
