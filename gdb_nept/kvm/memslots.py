# SPDX-License-Identifier: GPL-2.0-or-later
"""Memslots: which part of L1's physical memory lies where in the process that runs L1.

virt/kvm/kvm_main.c.  Two forms: up to 5.16 an array sorted by base_gfn; from 5.17 (a54d806688fe,
"KVM: Keep memslots in tree-based structures") red-black trees with two nodes in each slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.address import HostVirt, KernelVirt, L1Phys
from gdb_nept.arch.bits import ALL_BITS, Word, bit
from gdb_nept.errors import MemoryUnreadable, UnreadKind
from gdb_nept.kvm.containers import tree_nodes
from gdb_nept.kvm.lost import Lost
from gdb_nept.kvm.problems import Problems, Unreadable
from gdb_nept.memory.budget import NotLookedAt
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.target.ports import Value, container_of

SPACES = ("normal", "SMM")
UPDATE_IN_PROGRESS = 1 << 63  # KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS, 5.1+

#: asm/vmx.h: KVM's own slots, by their ids from KVM_USER_MEM_SLOTS on.
PRIVATE = ("the TSS", "the APIC-access page", "the identity map")
MOST_SLOTS = (1 << 15) - 1  # KVM_MEM_SLOTS_NUM since 5.12: SHRT_MAX


class SlotFlags(Word):
    """KVM_MEM_* of the ABI, and KVM_MEMSLOT_* of the kernel itself."""

    title = "memslot flags"

    log_dirty = bit(0, "dirty pages are logged", "LOG_DIRTY_PAGES")
    read_only = bit(1, "writes of the guest go to the VMM", "READONLY")
    guest_memfd = bit(2, "private memory from a guest_memfd", "GUEST_MEMFD")
    invalid = bit(16, "being deleted or moved", "INVALID")
    gmem_only = bit(17, "all memory from the guest_memfd", "GMEM_ONLY")


@dataclass(frozen=True)
class Slot:
    """One struct kvm_memory_slot: `size` bytes of L1 at `start`, kept at `userspace_addr`."""

    id: int
    space: int  # 0 normal, 1 SMM
    start: L1Phys
    size: int
    userspace_addr: HostVirt
    flags: SlotFlags
    dirty_bitmap: KernelVirt
    address: KernelVirt
    value: Value = field(repr=False, compare=False)
    private: str = ""  # what it is for, of a slot that KVM made for itself

    @property
    def end(self) -> L1Phys:
        return L1Phys(self.start + self.size)

    def holds(self, gpa: L1Phys) -> bool:
        return self.start <= gpa < self.end

    def host_virtual(self, gpa: L1Phys) -> HostVirt:
        """Where byte `gpa`, which this slot holds, lies in the VMM's memory."""
        return HostVirt(self.userspace_addr + (gpa - self.start))


@dataclass(frozen=True)
class MemSlots:
    """The slots of one address space, lowest first."""

    space: int
    generation: int | None  # None where this kernel does not tell
    slots: tuple[Slot, ...]
    form: str  # "array" or "tree"
    problems: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()  # what this kernel has no member for
    unreadable: tuple[Unreadable, ...] = ()  # of the problems

    @property
    def update_in_progress(self) -> bool:
        return bool((self.generation or 0) & UPDATE_IN_PROGRESS)

    def find(self, gpa: L1Phys) -> Slot | None:
        """The slot that holds `gpa`; None if it is in a hole: L1's MMIO."""
        return next((slot for slot in self.slots if slot.holds(gpa)), None)


def memslots(vm: Value, space: int = 0) -> MemSlots:
    """The memslots of a struct kvm in address space `space`.

    Raises MemberMissing if this kernel has no such form, MemoryUnreadable.
    """
    table = vm.member("memslots").index(space).deref()
    if table.has("gfn_tree"):
        form, (values, problem, kind) = "tree", _from_tree(table)
    else:
        form, (values, problem, kind) = "array", _from_array(table)
    problems = Problems()
    problems.add(problem, kind)
    slots = []
    users, lost = user_slots(table), Lost()
    generation = lost.or_else(None, lambda: generation_of(vm, space))
    for value in values:
        try:
            slots.append(_slot(value, space, users, lost))
        except NotLookedAt as error:
            problems.add(f"{len(values) - len(slots)} of {len(values)} memslots are {error.why}")
            break
        except MemoryUnreadable as error:
            problems.add(f"a memslot is unreadable: {error.message}", error.kind)
    slots.sort(key=lambda slot: slot.start)
    problems.take(_overlaps(slots))
    unknown = tuple(f"not known of memslots: {each}" for each in lost.messages)
    problems.take(unknown)
    told = tuple(problems.texts)
    unread = tuple(problems.unreadable)
    return MemSlots(space, generation, tuple(slots), form, told, unknown, unread)


def generation_of(vm: Value, space: int = 0) -> int:
    """Another with each change of the memslots; raises as memslots()."""
    table = vm.member("memslots").index(space).deref()
    return table.member("generation").number() & ALL_BITS


def most_slots(table: Value) -> int:
    """KVM_MEM_SLOTS_NUM (include/linux/kvm_host.h).  Up to 5.16 `id_to_index` has an element for
    each slot; the hash of ids after it does not tell, and the number was 32767 by then."""
    known = table.type.member("id_to_index").type.count if table.has("id_to_index") else 0
    return known or MOST_SLOTS


def user_slots(table: Value) -> int:
    """KVM_USER_MEM_SLOTS: the first id of a slot of KVM's own."""
    return most_slots(table) - len(PRIVATE)


def spaces(vm: Value) -> int:
    """How many address spaces the kernel keeps: 2 with SMM, 1 without."""
    return vm.member("memslots").type.count or 1


def _from_tree(table: Value) -> tuple[list[Value], str, UnreadKind | None]:
    """5.17+: container_of(node, struct kvm_memory_slot, gfn_node[node_idx])."""
    kernel = table.kernel
    which = table.member("node_idx").number() & 1
    found = tree_nodes(kernel, table.member("gfn_tree").address)
    pair = kernel.types.struct("kvm_memory_slot", "kvm").member("gfn_node")
    shift = which * pair.type.element().size
    values = [
        container_of(kernel, KernelVirt(node - shift), "kvm_memory_slot", "gfn_node", "kvm")
        for node in found.addresses
    ]
    return values, found.problem, found.kind


def _from_array(table: Value) -> tuple[list[Value], str, None]:
    """Up to 5.16: `used_slots` entries, highest base_gfn first."""
    used = table.member("used_slots").number()
    problem = ""
    if not 0 <= used <= most_slots(table):
        problem, used = f"used_slots is {used}: not believed", 0
    array = table.member("memslots")
    return [array.index(number) for number in range(used)], problem, None


MOST_OVERLAPS = 8  # told one by one
NO_ID = -1  # of a slot whose kernel keeps none


def _slot(value: Value, space: int, users: int, lost: Lost) -> Slot:
    number = lost.or_else(NO_ID, lambda: value.member("id").number())
    return Slot(
        id=number,
        space=space,
        start=L1Phys(value.member("base_gfn").number() * PAGE_SIZE),
        size=value.member("npages").number() * PAGE_SIZE,
        userspace_addr=HostVirt(value.member("userspace_addr").number()),
        flags=SlotFlags(lost.or_else(0, lambda: value.member("flags").number())),
        dirty_bitmap=lost.or_else(KernelVirt(0), lambda: value.member("dirty_bitmap").pointer()),
        address=value.address,
        value=value,
        private=PRIVATE[number - users] if 0 <= number - users < len(PRIVATE) else "",
    )


def _overlaps(slots: list[Slot]) -> list[str]:
    found = [
        f"slots {below.id} and {above.id} overlap at {above.start:#x}: an update in progress?"
        for below, above in zip(slots, slots[1:])
        if above.start < below.end
    ]
    if len(found) > MOST_OVERLAPS:
        more = len(found) - MOST_OVERLAPS
        return [*found[:MOST_OVERLAPS], f"and {more} more slots overlap with the one below"]
    return found
