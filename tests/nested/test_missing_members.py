# SPDX-License-Identifier: GPL-2.0-or-later
"""Each member, structure and symbol that the commands ask a real kernel for, taken away one at a
time.

A command then answers as before, or says what is missing; it never answers otherwise in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.live.injection import injection_point
from tests.fuzz.memory import MISTAKE, Fuzzed
from tests.nested.denied import MOVED, Denying, DenyingSymbols, DenyingTypes, Name, NextTypes

pytestmark = pytest.mark.bochs

WALK = ("walk", "0x2000000", "--json")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("target",),
    ("vms",),
    ("vmcs12", "--all"),
    ("ept", "0x2000000+64K"),
    ("ept", "--shadow", "0x2000000+64K"),
    ("ept", "--l1", "0+64K"),
    WALK,
    ("walk", "0xfee00000"),
    ("predict", "0x1000", "--linear", "--all"),
    ("check", "--json"),
)

#: Those that depend on a field of vmcs12: nept-vmcs12 shows what fields there are.
OF_VMCS12 = (WALK, ("predict", "0x1000", "--linear", "--all"), ("check", "--json"))


@dataclass(frozen=True)
class Older:
    """Without the name the kernel is taken for an older one (or a later one, where it went), of
    which the program knows how it does the same: `commands` may answer otherwise, and `say` what is
    true there."""

    why: str
    say: str
    commands: tuple[str, ...] = ("check",)


OLDER = {
    ("nested_vmx", "vmcs02"): Older(
        "4.10 to 4.14 have a pool of them (vmx.c, vmcs02_pool)", "not vmcs01", ("vms",)
    ),
    ("nested_vmx", "need_sync_vmcs02_to_vmcs12_rare"): Older(
        "before 5.3 all is written at each exit",
        "Guest-state area, stale: L2 runs: the value is in kvm_vcpu_arch.pat",
        ("vmcs12",),
    ),
    ("nested_vmx", "pre_vmenter_bndcfgs"): Older(
        "before 5.19 BNDCFGS is put off (nested.c)", "L2 runs with L1's IA32_BNDCFGS", ("vmcs12",)
    ),
    ("kvm_vcpu_stat", "guest_mode"): Older(
        "before 5.14 it is not counted", "not kept by this kernel (5.14+)", ("vms",)
    ),
    ("kvm_vcpu_arch", "guest_mmu"): Older(
        "before 5.0 walk_mmu tells it", "arch.walk_mmu is &arch.nested_mmu", ("vms",)
    ),
    ("mm_struct", "owner"): Older(
        "without CONFIG_MEMCG the VMM's name is not known", " -  ", ("vms",)
    ),
    ("kvm_mmu_page_role", "guest_mode"): Older(
        "before 4.18 a page does not tell of which MMU it is", '"a shadow page"', ("walk",)
    ),
    ("", "vmcs12_field_offsets"): Older(
        "before 7.2 all fields of vmcs12 are offered", "encls_exiting_bitmap", ("vmcs12",)
    ),
    ("x86_exception", "exit_qualification"): Older(
        "before 6.10 it is not there", '"how": "no x86_exception.exit_qualification"'
    ),
    ("kvm_arch", "shadow_mmio_value"): Older(
        "before 6.10 an SPTE that was never used is 0, and no bit 63", "not present", ("walk",)
    ),
    ("kvm_mmu", "translate_gpa"): Older(
        "from 5.17 on it is gone", '"how": "no kvm_mmu.translate_gpa"'
    ),
    ("kvm_x86_nested_ops", "translate_nested_gpa"): Older(
        "before 7.2 it is not there", '"how": "no kvm_x86_nested_ops.translate_nested_gpa"'
    ),
    ("kvm_x86_nested_ops", "triple_fault"): Older(
        "before 5.13 it is not there", '"how": "no kvm_x86_nested_ops.triple_fault"'
    ),
    ("kvm_x86_nested_ops", "check_events"): Older(
        "before 5.8 another member tells it", '"how": "kvm_mmu.get_guest_pgd is there"'
    ),
}


class Lab:
    def __init__(self, snapshot: Path, cache: Path) -> None:
        self.rule = Denying()
        self.fuzzed = Fuzzed(snapshot, cache)
        kernel: Any = self.fuzzed.kernel
        kernel.types = DenyingTypes(kernel.types, self.rule)
        kernel.symbols = DenyingSymbols(kernel.symbols, self.rule)
        self.whole: dict[tuple[str, ...], str] = {}
        self.asked: dict[Name, list[tuple[str, ...]]] = {}
        for command in COMMANDS:
            with self.rule.recording() as asked:
                self.whole[command] = self.fuzzed.answer(command)
            for name in asked:
                self.asked.setdefault(name, []).append(command)
        with self.rule.recording() as asked:
            kernel.forget()
            kernel.symbols.address("kvm_lock", "kvm")
        assert ("module", "kallsyms") in asked
        kernel.symbols.read_with = frozenset(asked)

    def differing(self, name: Name) -> Iterator[tuple[tuple[str, ...], str]]:
        """The commands that answer otherwise without `name`, and what they answer."""
        for command in self.asked[name]:
            if name[0] == "vmcs12" and command not in OF_VMCS12:
                continue
            with self.rule.without(name):
                answer = self.fuzzed.answer(command)
            if answer != self.whole[command]:
                yield command, answer


@pytest.fixture
def lab(plain_snapshot: Path, tmp_path: Path) -> Lab:
    return Lab(plain_snapshot, tmp_path)


def test_what_is_missing_is_told(lab: Lab) -> None:
    assert len(lab.asked) > 200
    silent = []
    for name in lab.asked:
        for command, answer in lab.differing(name):
            assert MISTAKE not in answer, (name, command, answer)
            # vmcs12 has the fields that its kernel has: nept-vmcs12 shows no other
            if name[0] == "vmcs12" and command[0] == "vmcs12":
                continue
            if not (tells(answer, lab.whole[command], name) or as_older(answer, command, name)):
                silent.append((name, command, answer[:200]))
    assert not silent, "\n".join(map(str, silent))


def as_older(answer: str, command: tuple[str, ...], name: Name) -> bool:
    older = OLDER.get(name)
    if older is None or command[0] not in older.commands:
        return False
    return older.say in " ".join(answer.split()) or older.say in answer


def tells(answer: str, whole: str, name: Name) -> bool:
    """Whether the answer says what is missing: it speaks of the member more than before, or says
    that a structure has no such member; or all it lacks are lines that told of that member."""
    struct, member = name
    words = " ".join(answer.split())
    if member and words.count(member) > " ".join(whole.split()).count(member):
        return True
    if not member:
        return f"no type 'struct {struct}'" in words
    if answer.startswith("error") and f"'{member}'" in words:
        return True
    if f"struct {struct} has no member" in words:
        return True
    old, new = ([line.rstrip(",") for line in text.splitlines()] for text in (whole, answer))
    lost = [line for line in old if line not in new]
    return set(new) <= set(old) and all(member in line for line in lost)


def test_little_depends_on_what_only_a_part_needs(lab: Lab) -> None:
    """The members of which one command's part is made cost no other command its answer."""
    names = (
        ("kvm_vcpu", "pid"),
        ("kvm_vcpu", "mode"),
        ("kvm_vcpu_arch", "regs"),
        ("vcpu_vmx", "exit_reason"),
        ("kvm_memory_slot", "dirty_bitmap"),
        ("kvm_memslots", "generation"),
        ("kvm_mmu", "cpu_role"),
        ("kvm_mmu", "prev_roots"),
        ("kvm_mmu_page", "unsync"),
        ("kvm_mmu_page", "role"),
        ("page", "private"),
        ("nested_vmx", "nested_run_pending"),
        ("kvm_vcpu_arch", "hflags"),
        ("kvm_mmu", "root"),
        ("page", ""),
        ("kvm_mmu_page", ""),
        ("kvm_x86_nested_ops", ""),
        ("x86_exception", ""),
    )
    known = [name for name in names if name in lab.asked]  # some moved from release to release
    assert len(known) >= 10
    for name in known:
        with lab.rule.without(name):
            for command in (WALK, ("ept", "0x2000000+64K"), ("vms",)):
                answer = lab.fuzzed.answer(command)
                assert not answer.startswith("error"), (name, command, answer)


def test_without_struct_module_the_target_is_still_told(lab: Lab) -> None:
    for name in (("module", ""), ("module", "list")):
        with lab.rule.without(name):
            answer = lab.fuzzed.answer(("target",))
            refusal = lab.fuzzed.answer(("vms",))
        assert not answer.startswith("error"), answer
        assert "the list 'modules' is not known" in " ".join(answer.split())
        assert "whether KVM is loaded cannot be told" in refusal


def test_the_kernel_after_7_2(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """struct kvm_pagewalk holds what was in struct kvm_mmu, and `w` points to it."""
    kernel: Any = lab.fuzzed.kernel
    commands = [command for command in COMMANDS if command[0] != "target"]
    before = {command: lab.fuzzed.answer(command) for command in commands}
    by_symbol = injection_point(kernel, lab.fuzzed.here.current.vms())
    monkeypatch.setattr("gdb_nept.live.injection.INJECT", "no_such_function")
    pointers = {}
    for owner in lab.fuzzed.here.current.vms().vms:
        for vcpu in owner.vcpus:
            for name in ("root_mmu", "guest_mmu"):
                mmu = vcpu.value.member(f"arch.{name}")
                place = kernel.to_physical(mmu.member(MOVED[0]).address)
                pointers[place] = int(mmu.address)
    kernel.types = NextTypes(kernel.types)
    with lab.fuzzed.changed(pointers):
        for command in commands:
            assert lab.fuzzed.answer(command) == before[command], command
        by_pointer = injection_point(kernel, lab.fuzzed.here.current.vms())
    assert by_pointer.address == by_symbol.address
    assert by_pointer.how != by_symbol.how
