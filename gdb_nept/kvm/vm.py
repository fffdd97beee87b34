# SPDX-License-Identifier: GPL-2.0-or-later
"""One VM: struct kvm, its vCPUs, its memslots, and the process that runs it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.address import KernelVirt
from gdb_nept.errors import (
    MemberMissing,
    MemoryUnreadable,
    TypeMissing,
    UnreadKind,
)
from gdb_nept.kvm.containers import Entries, Entry, xarray_entries
from gdb_nept.kvm.memslots import MemSlots, generation_of, memslots
from gdb_nept.kvm.problems import Problems, Unreadable, kind_of
from gdb_nept.kvm.vcpu import Vcpu, read_vcpu
from gdb_nept.memory.budget import NotLookedAt
from gdb_nept.target.ports import Value

TDX_VM = 5  # KVM_X86_TDX_VM: its vCPUs are no vcpu_vmx


@dataclass(frozen=True)
class UnreadVcpu:
    """A vCPU that is there, and of which `why` tells that it cannot be read."""

    place: int
    address: KernelVirt
    why: str
    kind: UnreadKind = UnreadKind.UNREADABLE


@dataclass(frozen=True)
class Vm:
    """One struct kvm.  `index` counts from the oldest, so that a new VM renumbers none.

    `unread` are vCPUs beside `vcpus`; `vcpus_unknown` says why there may be still more.
    """

    index: int
    address: KernelVirt
    pid: int | None
    command: str
    mm_pgd: KernelVirt | None
    vcpus: tuple[Vcpu, ...]
    slots: MemSlots | None
    problems: tuple[str, ...]
    value: Value = field(repr=False, compare=False)
    unread: tuple[UnreadVcpu, ...] = ()
    vcpus_unknown: str = ""
    unreadable: tuple[Unreadable, ...] = ()  # of the problems, with what became of the memory

    @property
    def slot_count(self) -> int:
        return len(self.slots.slots) if self.slots else 0

    @property
    def nested(self) -> bool:
        """Whether some vCPU of it is in VMX operation."""
        return any(vcpu.nested is not None and vcpu.nested.vmxon for vcpu in self.vcpus)

    @property
    def nested_unknown(self) -> str:
        """Why some vCPU of it may have nested state that is not seen; '' if all is known."""
        unread = [f"vCPU {one.place}: {one.why}" for one in self.unread]
        unknown = [one.nested_unknown for one in self.vcpus if one.nested_unknown]
        return next(iter([*unread, *unknown, self.vcpus_unknown]), "")


def read_vm(kvm: Value, index: int = 0) -> Vm:
    """One struct kvm, with what could not be read told in `problems`.  Raises TypeMissing."""
    problems = Problems()
    slots: MemSlots | None = None
    try:
        slots = memslots(kvm)
        problems.take(slots.problems, slots.unreadable)
    except (MemoryUnreadable, MemberMissing) as error:
        problems.add(f"memslots: {error.message}", kind_of(error))
    vcpus, unread, unknown = _vcpus(kvm, problems)
    pid, command, pgd = _process(kvm, problems)
    told, unreadable = tuple(problems.texts), tuple(problems.unreadable)
    return Vm(
        index=index,
        address=kvm.address,
        pid=pid,
        command=command,
        mm_pgd=pgd,
        vcpus=vcpus,
        slots=slots,
        problems=told,
        value=kvm,
        unread=unread,
        vcpus_unknown=unknown,
        unreadable=unreadable,
    )


def birth_of(kvm: Value) -> int | None:
    """Tells a VM from another that takes its place in memory, even of the same process:
    kvm_arch_init_vm() sets `kvmclock_offset` to the nanoseconds since boot, negative (x86.c).
    KVM_SET_CLOCK may change it.  None if this kernel has none; raises MemoryUnreadable."""
    arch = kvm.member("arch")
    return arch.member("kvmclock_offset").number() if arch.has("kvmclock_offset") else None


def mark_of(kvm: Value) -> tuple[int, int] | None:
    """Whether what was read of a struct kvm still holds: another VM has another mark, and so have
    other memslots (KVM counts their generation up at each change: kvm_main.c,
    kvm_swap_active_memslots()).  None if it cannot be told; raises MemoryUnreadable."""
    birth = birth_of(kvm)
    return None if birth is None else (birth, generation_of(kvm))


def _vcpus(kvm: Value, problems: Problems) -> tuple[tuple[Vcpu, ...], tuple[UnreadVcpu, ...], str]:
    """The vCPUs, those that cannot be read, and why there may be more."""
    found: list[Vcpu] = []
    unread: list[UnreadVcpu] = []
    try:
        tdx, unknown = _is_tdx(kvm), _why_no_vcpu_vmx(kvm)
        entries = _vcpu_entries(kvm)
    except MemoryUnreadable as error:
        problems.add(f"vCPUs: {error.message}", kind_of(error))
        return (), (), error.message
    if tdx:
        problems.add("a TDX guest: its vCPUs have no nested state")
        unknown = ""
    if unknown:
        problems.add(f"nested state is unknown: {unknown}")
    problems.add(entries.problem, entries.kind)
    for entry in entries.entries:
        try:
            vmx = not tdx and not unknown
            vcpu = read_vcpu(kvm.kernel, entry.address, entry.index, vmx, unknown)
        except NotLookedAt as error:
            left = len(entries.entries) - len(found) - len(unread)
            why = f"{left} of {len(entries.entries)} vCPUs are {error.message}"
            problems.add(why)
            return tuple(found), tuple(unread), why
        except MemoryUnreadable as error:
            unread.append(UnreadVcpu(entry.index, entry.address, error.message, error.kind))
            problems.add(f"vCPU {entry.index}: {error.message}", error.kind)
            continue
        found.append(vcpu)
        _of_vcpu(vcpu, unknown, problems)
    return tuple(found), tuple(unread), entries.problem


def _of_vcpu(vcpu: Vcpu, known: str, problems: Problems) -> None:
    """What could not be read of one vCPU, but for what all of them lack."""
    name = f"vCPU {vcpu.place}"
    if vcpu.nested_unknown not in ("", known):
        problems.add(f"{name}: nested state is unknown: {vcpu.nested_unknown}", vcpu.nested_kind)
    if vcpu.thread_unknown:
        problems.add(f"{name}: its thread is unknown: {vcpu.thread_unknown}", vcpu.thread_kind)
    problems.take(f"{name}: not known: {each}" for each in vcpu.lost)


def _vcpu_entries(kvm: Value) -> Entries:
    """5.17+: xarray vcpu_array; before: array vcpus[], filled up to online_vcpus."""
    if kvm.has("vcpu_array"):
        return xarray_entries(kvm.member("vcpu_array"))
    array = kvm.member("vcpus")
    online = kvm.member("online_vcpus.counter").number()
    count = max(0, min(online, array.type.count))
    problem = "" if count == online else f"online_vcpus is {online}: not believed"
    pointers = [(place, array.index(place).pointer()) for place in range(count)]
    return Entries(tuple(Entry(place, at) for place, at in pointers if at), problem)


def _is_tdx(kvm: Value) -> bool:
    arch = kvm.member("arch")
    return arch.has("vm_type") and arch.member("vm_type").number() == TDX_VM


def _why_no_vcpu_vmx(kvm: Value) -> str:
    """Why the vCPUs can be shown without their VMX part only, or ''.  Before modules brought BTF
    along (5.11), vmlinux' BTF has struct kvm and no vcpu_vmx."""
    try:
        kvm.kernel.types.struct("vcpu_vmx", "kvm_intel")
    except TypeMissing as error:
        return f"{error.message}. {error.advice}".rstrip()
    return ""


PROCESS = "the VMM's process"  # what a problem with it begins with


def _process(kvm: Value, problems: Problems) -> tuple[int | None, str, KernelVirt | None]:
    """Pid, command and page table of the VMM.  mm->owner needs CONFIG_MEMCG; userspace_pid is the
    thread that created the VM."""
    pid: int | None = None
    command, pgd = "", None
    try:
        if kvm.has("userspace_pid"):
            pid = kvm.member("userspace_pid").number()
        mm = kvm.member("mm")
        if not mm.pointer():
            return pid, command, pgd
        space = mm.deref()
        pgd = space.member("pgd").pointer() or None
        owner = space.member("owner") if space.has("owner") else None
        if owner is not None and owner.pointer():
            task = owner.deref()
            pid = task.member("tgid").number()
            command = task.member("comm").string()
    except (MemoryUnreadable, MemberMissing, TypeMissing) as error:
        problems.add(f"{PROCESS}: {error.message}", kind_of(error))
    return pid, command, pgd
