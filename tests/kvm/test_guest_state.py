# SPDX-License-Identifier: GPL-2.0-or-later
"""When KVM loads L2's registers from vmcs12 and writes them back, against its source.

The bits are those of arch/x86/include/asm/vmx.h, the conditions those of prepare_vmcs02(),
prepare_vmcs02_early(), prepare_vmcs02_rare(), sync_vmcs02_to_vmcs12() and vmx_set_msr(), as they
stand in 5.10, 6.1, 6.12 and 7.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gdb_nept.arch.controls import EntryControls, ExitControls, PinControls, SecondaryControls
from gdb_nept.kvm.authority import Authority, Situation, judge
from gdb_nept.kvm.guest_state import GUEST_STATE, InForce, Writes
from gdb_nept.kvm.vmcs12 import decode
from gdb_nept.kvm.vmcs12_layout import built_in, built_in_layouts
from tests.kvm.test_vmcs12 import content

RIGHT, STALE, MAYBE = Authority.AUTHORITATIVE, Authority.STALE, Authority.MAYBE_STALE

# arch/x86/include/asm/vmx.h
VM_ENTRY_LOAD_DEBUG_CONTROLS = 0x4
VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL = 0x2000
VM_ENTRY_LOAD_IA32_PAT = 0x4000
VM_ENTRY_LOAD_IA32_EFER = 0x8000
VM_ENTRY_LOAD_BNDCFGS = 0x10000
VM_ENTRY_LOAD_CET_STATE = 0x100000
VM_EXIT_SAVE_DEBUG_CONTROLS = 0x4
VM_EXIT_SAVE_IA32_PAT = 0x40000
VM_EXIT_SAVE_IA32_EFER = 0x100000
VM_EXIT_SAVE_VMX_PREEMPTION_TIMER = 0x400000
PIN_BASED_VMX_PREEMPTION_TIMER = 0x40
SECONDARY_EXEC_ENABLE_EPT = 0x2
SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY = 0x200


def under(
    entry: int = 0, exit: int = 0, pin: int = 0, secondary: int = 0, pae: bool | None = False
) -> InForce:
    return InForce(
        PinControls(pin),
        SecondaryControls(secondary),
        ExitControls(exit),
        EntryControls(entry),
        pae,
    )


@dataclass(frozen=True)
class Row:
    """What is right of a field under some controls: while L2 runs, while a VM entry is pending, and
    after an exit to L1; `says` stands in one of the reasons."""

    field: str
    controls: InForce
    runs: Authority
    pending: Authority
    exited: Authority
    says: str


NONE = under()
DEBUG, SAVE_DEBUG = VM_ENTRY_LOAD_DEBUG_CONTROLS, VM_EXIT_SAVE_DEBUG_CONTROLS
EFER, SAVE_EFER = VM_ENTRY_LOAD_IA32_EFER, VM_EXIT_SAVE_IA32_EFER
PAT, SAVE_PAT = VM_ENTRY_LOAD_IA32_PAT, VM_EXIT_SAVE_IA32_PAT
TIMER, SAVE_TIMER = PIN_BASED_VMX_PREEMPTION_TIMER, VM_EXIT_SAVE_VMX_PREEMPTION_TIMER
EPT, VID = SECONDARY_EXEC_ENABLE_EPT, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY

#: Loaded at each entry, saved at each exit, whatever the controls.
ALWAYS = (
    "guest_cr0", "guest_cr3", "guest_cr4", "guest_rsp", "guest_rip", "guest_rflags",
    "guest_cs_ar_bytes", "guest_ss_ar_bytes", "guest_interruptibility_info", "guest_activity_state",
    "guest_es_base", "guest_cs_selector", "guest_gdtr_limit", "guest_tr_ar_bytes",
    "guest_pending_dbg_exceptions",
)  # fmt: skip

ROWS = (
    *(Row(name, NONE, STALE, RIGHT, RIGHT, "refreshed from vmcs02") for name in ALWAYS),
    # written when L2 writes the MSR, in any case: vmx_set_msr()
    Row("guest_sysenter_cs", NONE, RIGHT, RIGHT, RIGHT, "when L2 writes the MSR"),
    Row("guest_sysenter_esp", NONE, RIGHT, RIGHT, RIGHT, "when L2 writes the MSR"),
    Row("guest_sysenter_eip", NONE, RIGHT, RIGHT, RIGHT, "when L2 writes the MSR"),
    # nested_vmx_calc_efer(); saved at the exit from vcpu->arch.efer
    Row("guest_ia32_efer", NONE, STALE, STALE, STALE, "L2 runs with L1's EFER"),
    Row("guest_ia32_efer", under(EFER), STALE, RIGHT, RIGHT, "kvm_vcpu_arch.efer"),
    Row("guest_ia32_efer", under(EFER, SAVE_EFER), STALE, RIGHT, RIGHT, "refreshed from vmcs02"),
    Row("guest_ia32_efer", under(0, SAVE_EFER), STALE, STALE, RIGHT, "bit 15, load IA32_EFER"),
    # vcpu->arch.dr7
    Row("guest_dr7", NONE, STALE, STALE, STALE, "L1's DR7"),
    Row("guest_dr7", under(DEBUG), STALE, RIGHT, RIGHT, "bit 2, save debug controls"),
    Row("guest_dr7", under(DEBUG, SAVE_DEBUG), STALE, RIGHT, RIGHT, "kvm_vcpu_arch.dr7"),
    Row("guest_dr7", under(0, SAVE_DEBUG), STALE, STALE, RIGHT, "refreshed"),
    # written when L2 writes it; the processor itself clears bits of it
    Row("guest_ia32_debugctl", NONE, STALE, STALE, STALE, "L1's IA32_DEBUGCTL"),
    Row("guest_ia32_debugctl", under(DEBUG), MAYBE, RIGHT, RIGHT, "does not write it back"),
    Row("guest_ia32_debugctl", under(DEBUG, SAVE_DEBUG), MAYBE, RIGHT, MAYBE, "the processor"),
    Row("guest_ia32_debugctl", under(0, SAVE_DEBUG), MAYBE, MAYBE, MAYBE, "until it writes"),
    # vcpu->arch.pat; written when L2 writes it
    Row("guest_ia32_pat", NONE, STALE, STALE, STALE, "L1's PAT"),
    Row("guest_ia32_pat", under(PAT), MAYBE, RIGHT, RIGHT, "kvm_vcpu_arch.pat"),
    Row("guest_ia32_pat", under(PAT, SAVE_PAT), RIGHT, RIGHT, RIGHT, "when L2 writes the MSR"),
    Row("guest_ia32_pat", under(0, SAVE_PAT), MAYBE, MAYBE, MAYBE, "until it writes the MSR"),
    # never written back: KVM offers L1 no exit control for it
    Row("guest_ia32_perf_global_ctrl", NONE, STALE, STALE, STALE, "L1's IA32_PERF_GLOBAL"),
    Row(
        "guest_ia32_perf_global_ctrl",
        under(VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL),
        MAYBE,
        RIGHT,
        RIGHT,
        "pmu.global_ctrl",
    ),
    Row("guest_bndcfgs", NONE, MAYBE, MAYBE, MAYBE, "L1's IA32_BNDCFGS"),
    Row("guest_bndcfgs", under(VM_ENTRY_LOAD_BNDCFGS), RIGHT, RIGHT, RIGHT, "writes the MSR"),
    # vmcs_read_cet_state(), at each exit
    Row("guest_s_cet", NONE, STALE, STALE, RIGHT, "L1's CET state"),
    Row("guest_ssp", under(VM_ENTRY_LOAD_CET_STATE), STALE, RIGHT, RIGHT, "refreshed"),
    Row("guest_ssp_tbl", NONE, STALE, STALE, RIGHT, "bit 20, load CET state"),
    # nested_cpu_has_ept(vmcs12) && is_pae_paging(vcpu)
    Row("guest_pdptr0", under(secondary=EPT, pae=True), STALE, RIGHT, RIGHT, "refreshed"),
    Row("guest_pdptr1", under(secondary=EPT, pae=False), STALE, STALE, STALE, "not use PAE"),
    Row("guest_pdptr2", under(secondary=0, pae=True), STALE, STALE, STALE, "bit 1, enable EPT"),
    Row("guest_pdptr3", under(secondary=EPT, pae=None), MAYBE, MAYBE, MAYBE, "not known here"),
    # nested_cpu_has_preemption_timer() and the exit control, and not while the entry is pending
    Row("vmx_preemption_timer_value", NONE, RIGHT, RIGHT, RIGHT, "L2 has no use for it"),
    Row(
        "vmx_preemption_timer_value",
        under(pin=TIMER),
        RIGHT,
        RIGHT,
        RIGHT,
        "bit 22, save VMX-preemption timer value",
    ),
    Row(
        "vmx_preemption_timer_value",
        under(exit=SAVE_TIMER, pin=TIMER),
        STALE,
        RIGHT,
        RIGHT,
        "nested.preemption_timer_deadline",
    ),
    # nested_cpu_has_vid()
    Row("guest_intr_status", NONE, RIGHT, RIGHT, RIGHT, "bit 9, virtual-interrupt delivery"),
    Row("guest_intr_status", under(secondary=VID), STALE, RIGHT, RIGHT, "refreshed"),
)


def named(row: Row) -> str:
    now = row.controls
    return f"{row.field}-{now.entry.value:x}-{now.exit.value:x}-{now.pin.value:x}-{now.pae}"


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_the_authority_of_a_register_follows_the_controls(row: Row) -> None:
    runs = Situation(loaded=True, l2_active=True, controls=row.controls)
    told = [
        judge(row.field, runs),
        judge(row.field, replace(runs, run_pending=True)),
        judge(row.field, replace(runs, l2_active=False)),
    ]
    assert [each.authority for each in told] == [row.runs, row.pending, row.exited]
    assert any(row.says in each.why for each in told), [each.why for each in told]


def test_every_state_of_l2_has_a_row_and_nothing_else() -> None:
    rows = [name for row in GUEST_STATE for name in row.fields]
    assert len(rows) == len(set(rows))
    assert set(rows) == {each.name for each in built_in().fields if each.keeper == "state"}
    others = {each.name for each in built_in().fields if each.name.startswith("guest_")} - set(rows)
    # exit information, and what KVM treats as L1's
    assert others == {"guest_physical_address", "guest_linear_address", "guest_pml_index"}


@pytest.mark.parametrize("field", sorted({row.field for row in ROWS}))
def test_nothing_is_claimed_where_the_controls_are_not_known(field: str) -> None:
    conditional = field in {row.field for row in ROWS if row.controls != NONE}
    now = Situation(loaded=True, l2_active=False)
    if conditional:
        assert judge(field, now).authority is MAYBE
        assert "not known here" in judge(field, now).why


@pytest.mark.parametrize(
    ("field", "controls"),
    [
        ("guest_sysenter_esp", NONE),
        ("guest_ia32_pat", under(PAT, SAVE_PAT)),
        ("guest_bndcfgs", under(VM_ENTRY_LOAD_BNDCFGS)),
    ],
)
def test_before_5_3_all_is_written_back_at_the_exit(field: str, controls: InForce) -> None:
    old = Situation(True, True, controls=controls, writes=Writes(False, False))
    assert judge(field, old).authority is STALE
    assert judge(field, replace(old, l2_active=False)).authority is RIGHT


def test_bndcfgs_of_5_10_is_put_off_with_the_segments() -> None:
    old = Situation(
        loaded=True,
        l2_active=False,
        rare_sync_pending=True,
        controls=under(VM_ENTRY_LOAD_BNDCFGS),
        writes=Writes(bndcfgs_at_wrmsr=False),
    )
    assert judge("guest_bndcfgs", old).authority is STALE
    assert judge("guest_bndcfgs", replace(old, rare_sync_pending=False)).authority is RIGHT
    assert judge("guest_bndcfgs", replace(old, writes=Writes())).authority is RIGHT


@pytest.mark.parametrize(
    ("cr0", "cr4", "entry", "pae"),
    [
        (0x80000031, 0x20, 0x11FF, True),
        (0x80000031, 0x20, 0x13FF, False),  # IA-32e mode
        (0x80000031, 0x00, 0x11FF, False),  # 32-bit paging
        (0x00000031, 0x20, 0x11FF, False),  # no paging
    ],
)
def test_after_an_exit_vmcs12_tells_whether_l2_uses_pae(
    cr0: int, cr4: int, entry: int, pae: bool
) -> None:
    layout = built_in_layouts()[0]
    data = content(
        layout,
        guest_cr0=cr0,
        guest_cr4=cr4,
        vm_entry_controls=entry,
        cpu_based_vm_exec_control=1 << 31,
        secondary_vm_exec_control=EPT,
    )
    found = decode(data, layout, Situation(loaded=True, l2_active=False))
    assert found.pae is pae
    assert found.field("guest_pdptr0").authority is (RIGHT if pae else STALE)


def test_what_the_cpu_tells_of_a_running_l2_counts_and_not_the_last_entrys_cr0() -> None:
    layout = built_in_layouts()[0]
    data = content(layout, guest_cr0=0x80000031, guest_cr4=0x20, vm_entry_controls=0x11FF)
    running = Situation(loaded=True, l2_active=True)
    assert decode(data, layout, running, pae=False).pae is False
    assert decode(data, layout, running).pae is None
