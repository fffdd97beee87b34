# SPDX-License-Identifier: GPL-2.0-or-later
"""All VMs of a KVM host: the list vm_list of virt/kvm/kvm_main.c."""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemberMissing, MemoryUnreadable, NoGuest, TypeMissing
from gdb_nept.kvm.containers import Entries, Entry, list_nodes, xarray_entries
from gdb_nept.kvm.memslots import MemSlots, memslots
from gdb_nept.kvm.variables import variable, variable_address
from gdb_nept.kvm.vcpu import Vcpu, read_vcpu
from gdb_nept.target.ports import Kernel, Value, container_of

TDX_VM = 5  # KVM_X86_TDX_VM: its vCPUs are no vcpu_vmx


@dataclass(frozen=True)
class Vm:
    """One struct kvm.  `index` counts from the oldest, so that a new VM renumbers none."""

    index: int
    address: KernelVirt
    pid: int | None
    command: str
    mm_pgd: KernelVirt | None
    vcpus: tuple[Vcpu, ...]
    slots: MemSlots | None
    problems: tuple[str, ...]
    value: Value = field(repr=False, compare=False)

    @property
    def slot_count(self) -> int:
        return len(self.slots.slots) if self.slots else 0

    @property
    def nested(self) -> bool:
        """Whether some vCPU of it is in VMX operation."""
        return any(vcpu.nested is not None and vcpu.nested.vmxon for vcpu in self.vcpus)


@dataclass(frozen=True)
class VmList:
    """The VMs, oldest first; `notes` are what the user should know about the list itself."""

    vms: tuple[Vm, ...]
    notes: tuple[str, ...]


def vms(kernel: Kernel) -> VmList:
    """Every VM of the host.  No VM at all is a result.

    Raises NoGuest where KVM or its Intel part is not there, TypeMissing where types of it are
    not to be had.
    """
    _require_intel(kernel)
    head = variable_address(kernel, "vm_list", "kvm")
    if head is None:
        raise NoGuest(
            "kvm is loaded, but its variable 'vm_list' has no symbol",
            "The kernel needs CONFIG_KALLSYMS_ALL, or give gdb the debug symbols of kvm.ko.",
        )
    found = list_nodes(kernel, head)
    notes = [found.problem] if found.problem else []
    if _lock_held(kernel):
        notes.append("kvm_lock is held: the list of VMs may be in the middle of a change")
    oldest_first = tuple(reversed(found.addresses))  # list_add() puts a new VM in front
    return VmList(
        tuple(
            read_vm(container_of(kernel, node, "kvm", "vm_list", "kvm"), index)
            for index, node in enumerate(oldest_first)
        ),
        tuple(notes),
    )


def read_vm(kvm: Value, index: int = 0) -> Vm:
    """One struct kvm, with what could not be read told in `problems`.  Raises TypeMissing."""
    problems: list[str] = []
    slots: MemSlots | None = None
    try:
        slots = memslots(kvm)
        problems += slots.problems
    except (MemoryUnreadable, MemberMissing) as error:
        problems.append(f"memslots: {error.message}")
    vcpus = _vcpus(kvm, problems)
    pid, command, pgd = _process(kvm, problems)
    return Vm(index, kvm.address, pid, command, pgd, vcpus, slots, tuple(problems), kvm)


def _require_intel(kernel: Kernel) -> None:
    loaded = {module.name for module in kernel.modules()}
    if "kvm_intel" in loaded:
        return
    if kernel.module_problem:
        raise NoGuest(
            f"whether KVM is loaded cannot be told: {kernel.module_problem}",
            "Is the dump truncated?  nept-target shows what is read.",
        )
    if "kvm_amd" in loaded:
        raise NoGuest(
            "KVM runs on AMD here (kvm_amd): nested EPT exists on Intel only",
            "AMD's counterpart, nested NPT, is not decoded.",
        )
    if variable_address(kernel, "vmx_vcpu_run", "kvm_intel") is not None:
        return  # built in
    if "kvm" in loaded:
        raise NoGuest("kvm is loaded without kvm_intel", "Load kvm_intel on the host.")
    raise NoGuest("kvm module is not loaded", "Load kvm_intel on the host, and start a VM.")


def _lock_held(kernel: Kernel) -> bool:
    """struct mutex kvm_lock begins with its owner (5.3+; a spinlock before, told the same)."""
    try:
        return bool(variable(kernel, "kvm_lock", 4, "kvm"))
    except MemoryUnreadable:
        return False


def _vcpus(kvm: Value, problems: list[str]) -> tuple[Vcpu, ...]:
    why_not = _why_no_vcpu_vmx(kvm)
    if why_not:
        problems.append(why_not)
    found: list[Vcpu] = []
    try:
        entries = _vcpu_entries(kvm)
    except MemoryUnreadable as error:
        problems.append(f"vCPUs: {error.message}")
        return ()
    if entries.problem:
        problems.append(entries.problem)
    for entry in entries.entries:
        try:
            found.append(read_vcpu(kvm.kernel, entry.address, entry.index, not why_not))
        except MemoryUnreadable as error:
            problems.append(f"vCPU {entry.index}: {error.message}")
    return tuple(found)


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


def _why_no_vcpu_vmx(kvm: Value) -> str:
    """Why the vCPUs can be shown without their VMX part only, or ''.

    Modules bring BTF along since 5.11; before, struct kvm is to be had and vcpu_vmx is not.
    """
    arch = kvm.member("arch")
    if arch.has("vm_type") and arch.member("vm_type").number() == TDX_VM:
        return "a TDX guest: its vCPUs have no nested state"
    try:
        kvm.kernel.types.struct("vcpu_vmx", "kvm_intel")
    except TypeMissing as error:
        return f"nested state cannot be read: {error.message}. {error.advice}"
    return ""


def _process(kvm: Value, problems: list[str]) -> tuple[int | None, str, KernelVirt | None]:
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
        problems.append(f"the VMM's process: {error.message}")
    return pid, command, pgd


def vm_at(found: VmList, index: int) -> Vm:
    """The VM that the list shows as `index`; raises NoGuest."""
    if 0 <= index < len(found.vms):
        return found.vms[index]
    count = len(found.vms)
    known = "there is no VM" if not count else f"VMs are numbered 0 to {count - 1}"
    raise NoGuest(f"no VM {index}: {known}", "List them with nept-vms.")


def vcpu_at(vm: Vm, place: int) -> Vcpu:
    """vCPU `place` of `vm`; raises NoGuest."""
    for vcpu in vm.vcpus:
        if vcpu.place == place:
            return vcpu
    places = ", ".join(str(vcpu.place) for vcpu in vm.vcpus) or "none"
    raise NoGuest(f"VM {vm.index} has no vCPU {place}", f"Its vCPUs: {places}.")
