# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel made by hand: types from the offsets of real ones, memory that a test fills in."""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import MemberMissing, MemoryUnreadable, SymbolMissing, TypeMissing
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.target.pagetable import Translation
from gdb_nept.target.ports import CType, Kernel, Member, Module, Value, object_at
from tests.kvm.offsets import COMMON, EXT_ROLE, MORE, OTHERWISE, ROLE, Offsets, Struct

DIRECT_MAP = 0xFFFF_8880_0000_0000
NONE = (1 << 64) - 1


class FakeTypes:
    """Types by [offset, size] of their members; unsigned numbers unless COMMON says more."""

    origin = "a test"

    def __init__(self, offsets: Offsets) -> None:
        self.structs = {name: Struct(size, dict(fields)) for name, (size, fields) in MORE.items()}
        self.structs.update(offsets)
        self.structs["task_struct"].fields.setdefault("tgid", (1500, 4))

    def struct(self, name: str, module: str | None = None) -> CType:
        if name == "kvm_mmu_page_role":
            return self._bits(name, ROLE)
        if name == "kvm_mmu_extended_role":
            return self._bits(name, EXT_ROLE)
        if name not in self.structs:
            raise TypeMissing(name, self.origin)
        size, fields = self.structs[name].size, self.structs[name].fields

        def lookup(member: str) -> Member:
            if member not in fields:
                raise MemberMissing(name, member)
            offset, length = fields[member]
            return Member(member, offset * 8, 0, self._typed(name, member, length))

        return CType("struct", name, size, lookup=lookup, names=lambda: tuple(fields))

    def _typed(self, struct: str, member: str, size: int) -> CType:
        if struct == "kvm_cpu_role":
            kind = "kvm_mmu_page_role" if member == "base" else "kvm_mmu_extended_role"
            return self.struct(kind)
        text = COMMON.get(struct, {}).get(member, f"u{size}")
        found = self.named(text)
        # One member had different types at different times: what fits the size is meant.
        if found.size == size or text.endswith("]"):
            return found
        return self.named(OTHERWISE.get((struct, member), f"u{size}"))

    def named(self, text: str) -> CType:
        if text.endswith("]"):
            of, _, count = text[:-1].rpartition("[")
            element = self.named(of)
            size = element.size * int(count)
            return CType("array", of, size, count=int(count), target=lambda: element)
        if text.startswith("*"):
            return CType("pointer", text, 8, target=lambda: self.named(text[1:]))
        if text == "void":
            return CType("void", text, 1)
        if text[0] in "ui" and text[1:].isdigit():
            return CType("int", text, int(text[1:]), signed=text[0] == "i")
        return self.struct(text)

    def _bits(self, name: str, rows: tuple[tuple[str, int, int], ...]) -> CType:
        number = CType("int", "unsigned int", 4)
        members = {row[0]: Member(row[0], row[1], row[2], number) for row in rows}
        members["word"] = Member("word", 0, 0, number)

        def lookup(member: str) -> Member:
            if member not in members:
                raise MemberMissing(name, member)
            return members[member]

        return CType("union", name, 4, lookup=lookup, names=lambda: tuple(members))


@dataclass
class FakeSymbols:
    origin: str = "a test"
    addresses: dict[str, int] = field(default_factory=dict)

    def address(self, name: str, module: str | None = None) -> KernelVirt:
        if name not in self.addresses:
            raise SymbolMissing(name, self.origin)
        return KernelVirt(self.addresses[name])

    def name_at(self, address: KernelVirt) -> str | None:
        return None


class FakeKernel:
    """Memory is what `allocate`, `poke` and `put` made; all else is unreadable."""

    release = "0.0-test"

    def __init__(self, offsets: Offsets) -> None:
        self.types = FakeTypes(offsets)
        self.symbols = FakeSymbols()
        self.physical: SparseMemory[HostPhys] = SparseMemory({})
        self.loaded = ["kvm", "kvm_intel"]
        self.bytes: dict[int, int] = {}
        self.next = DIRECT_MAP + 0x10_0000

    def read(self, address: KernelVirt, size: int) -> bytes:
        try:
            return bytes(self.bytes[address + place] for place in range(size))
        except KeyError:
            raise MemoryUnreadable(address, size, "nothing there in this test") from None

    def to_physical(self, address: KernelVirt) -> HostPhys:
        if not DIRECT_MAP <= address < DIRECT_MAP + (1 << 40):
            raise MemoryUnreadable(address, 1, "not mapped in this test")
        return HostPhys(address - DIRECT_MAP)

    def translate_user(self, pgd: KernelVirt, address: HostVirt) -> Translation:
        raise MemoryUnreadable(pgd, 8, "no process in this test")

    def modules(self) -> tuple[Module, ...]:
        return tuple(Module(name, KernelVirt(0), 0) for name in self.loaded)

    @property
    def module_problem(self) -> str:
        return ""

    def allocate(self, size: int) -> KernelVirt:
        """Zeroed memory, page aligned."""
        address = KernelVirt(self.next)
        self.next += (size + 0x1FFF) & ~0xFFF
        self.put(address, bytes(size))
        return address

    def put(self, address: int, data: bytes) -> None:
        self.bytes.update((address + place, byte) for place, byte in enumerate(data))

    def put_u64(self, address: int, number: int) -> None:
        self.put(address, (number & NONE).to_bytes(8, "little"))

    def new(self, struct: str) -> Value:
        kernel: Kernel = self
        size = kernel.types.struct(struct).size
        return object_at(kernel, self.allocate(size), struct)

    def variable(self, name: str, number: int) -> None:
        self.symbols.addresses[name] = self.allocate(8)
        self.put_u64(self.symbols.addresses[name], number)

    def poke(self, value: Value, path: str, number: int, place: int | None = None) -> None:
        """Set member `path` (element `place` of it) of an object to `number`."""
        target = value.member(path)
        if place is not None:
            target = target.index(place)
        if not target.bit_size:
            number &= (1 << 8 * target.type.size) - 1
            self.put(target.address, number.to_bytes(target.type.size, "little"))
            return
        word = int.from_bytes(self.read(target.address, 4), "little")
        mask = ((1 << target.bit_size) - 1) << target.bit_offset
        word = word & ~mask | number << target.bit_offset & mask
        self.put(target.address, word.to_bytes(4, "little"))


def link(kernel: FakeKernel, head: int, nodes: list[int]) -> None:
    """Make a list_head list of `nodes` behind `head`."""
    ring = [head, *nodes]
    for here, after in zip(ring, ring[1:] + ring[:1]):
        kernel.put_u64(here, after)
        kernel.put_u64(after + 8, here)


def new_vcpu(kernel: FakeKernel, id: int = 0) -> Value:
    """A struct vcpu_vmx as KVM_CREATE_VCPU leaves it: no VMXON, L1 runs."""
    vmx = kernel.new("vcpu_vmx")
    kernel.poke(vmx, "vcpu.vcpu_id", id)
    kernel.poke(vmx, "vcpu.cpu", -1)
    kernel.poke(vmx, "loaded_vmcs", vmx.member("vmcs01").address)
    kernel.poke(vmx, "nested.vmxon_ptr", NONE)
    kernel.poke(vmx, "nested.current_vmptr", NONE)
    kernel.poke(vmx, "vcpu.arch.maxphyaddr", 39)
    if vmx.has("vcpu.arch.root_mmu"):
        kernel.poke(vmx, "vcpu.arch.mmu", vmx.member("vcpu.arch.root_mmu").address)
    for name in ("root_mmu", "guest_mmu"):
        if vmx.has(f"vcpu.arch.{name}.root"):
            kernel.poke(vmx, f"vcpu.arch.{name}.root.hpa", NONE)
            array = vmx.member(f"vcpu.arch.{name}.prev_roots")
            for place in range(3):
                kernel.poke(array.index(place), "hpa", NONE)
                kernel.poke(array.index(place), "pgd", NONE)
    return vmx


def new_vm(kernel: FakeKernel, vcpus: list[Value]) -> Value:
    """A struct kvm with these vCPUs and no memslot; not yet in vm_list."""
    vm = kernel.new("kvm")
    for space in range(2):
        kernel.poke(vm, "memslots", kernel.new("kvm_memslots").address, space)
    if vm.has("vcpu_array"):
        _fill_xarray(kernel, vm.member("vcpu_array"), [vcpu.address for vcpu in vcpus])
    else:
        for place, vcpu in enumerate(vcpus):
            kernel.poke(vm, "vcpus", vcpu.address, place)
    kernel.poke(vm, "online_vcpus.counter", len(vcpus))
    for vcpu in vcpus:
        kernel.poke(vcpu, "vcpu.kvm", vm.address)
    return vm


def _fill_xarray(kernel: FakeKernel, array: Value, pointers: list[int]) -> None:
    """As xa_insert() does: one pointer at index 0 needs no node."""
    if len(pointers) == 1:
        kernel.poke(array, "xa_head", pointers[0])
        return
    if pointers:
        node = kernel.new("xa_node")
        for place, pointer in enumerate(pointers):
            kernel.poke(node, "slots", pointer, place)
        kernel.poke(array, "xa_head", node.address + 2)


def add_slots(kernel: FakeKernel, vm: Value, slots: list[tuple[int, int, int, int]]) -> None:
    """Put (id, gpa, size, hva) into address space 0, as a tree leaning to the right, or as the
    older kernels' array."""
    table = vm.member("memslots").index(0).deref()
    if not table.has("gfn_tree"):
        kernel.poke(table, "used_slots", len(slots))
        for place, slot in enumerate(sorted(slots, key=lambda slot: -slot[1])):
            _fill_slot(kernel, table.member("memslots").index(place), slot)
        return
    which = table.member("node_idx").number()
    link_at = table.member("gfn_tree").address
    for slot in sorted(slots, key=lambda slot: slot[1]):
        value = kernel.new("kvm_memory_slot")
        _fill_slot(kernel, value, slot)
        node = value.member("gfn_node").index(which)
        kernel.put_u64(link_at, node.address)
        link_at = node.member("rb_right").address


def _fill_slot(kernel: FakeKernel, value: Value, slot: tuple[int, int, int, int]) -> None:
    kernel.poke(value, "id", slot[0])
    kernel.poke(value, "base_gfn", slot[1] >> 12)
    kernel.poke(value, "npages", slot[2] >> 12)
    kernel.poke(value, "userspace_addr", slot[3])
