# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own containers: list_head, xarray, rb_root; each walked with a bound.

A container of a stopped kernel may be in the middle of a change, or overwritten.  So each walk
remembers where it was, gives up at a limit, and says so beside what it found.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemoryUnreadable, UnreadKind
from gdb_nept.kvm.problems import kind_of
from gdb_nept.target.ports import Kernel, Value, object_at, read_pointer

LIMIT = 65536  # more than the memslots, vCPUs or VMs that any KVM allows


@dataclass(frozen=True)
class Found:
    """Addresses in the order of the container; `problem` is '' if the walk came to its end, and
    `kind` what became of the memory, if that cannot be read."""

    addresses: tuple[KernelVirt, ...]
    problem: str = ""
    kind: UnreadKind | None = None


@dataclass(frozen=True)
class Entry:
    """A pointer that the container holds at `index`."""

    index: int
    address: KernelVirt


@dataclass(frozen=True)
class Entries:
    """By index; `problem` is '' if the walk came to its end."""

    entries: tuple[Entry, ...]
    problem: str = ""
    kind: UnreadKind | None = None


def list_nodes(kernel: Kernel, head: KernelVirt, limit: int = LIMIT) -> Found:
    """The nodes of the list at `head`, without the head itself (include/linux/list.h)."""
    nodes: list[KernelVirt] = []
    seen = {head}
    try:
        node = read_pointer(kernel, head)
        while node not in seen:
            if not node or len(nodes) >= limit:
                why = f"gave up after {len(nodes)} nodes of the list at {head:#x}"
                return Found(tuple(nodes), why if node else f"{why}: a null pointer")
            seen.add(node)
            nodes.append(node)
            node = read_pointer(kernel, node)
    except MemoryUnreadable as error:
        why = f"the list at {head:#x} breaks off: {error.message}"
        return Found(tuple(nodes), why, kind_of(error))
    if node != head:
        return Found(tuple(nodes), f"the list at {head:#x} runs in a circle at {node:#x}")
    return Found(tuple(nodes))


def tree_nodes(kernel: Kernel, root: KernelVirt, limit: int = LIMIT) -> Found:
    """The nodes of the red-black tree at `root` (struct rb_root), in order.

    Raises TypeMissing, MemberMissing; what memory holds is told in `problem`.
    """
    node_type = kernel.types.struct("rb_node")
    left, right = node_type.member("rb_left").offset, node_type.member("rb_right").offset
    nodes: list[KernelVirt] = []
    seen: set[int] = set()
    above: list[KernelVirt] = []
    try:
        node = read_pointer(kernel, root)
        while node or above:
            while node:
                if node in seen or len(seen) >= limit:
                    why = f"the tree at {root:#x} is no tree: it comes back to {node:#x}"
                    return Found(tuple(nodes), why if node in seen else f"gave up: {limit} nodes")
                seen.add(node)
                above.append(node)
                node = read_pointer(kernel, KernelVirt(node + left))
            top = above.pop()
            nodes.append(top)
            node = read_pointer(kernel, KernelVirt(top + right))
    except MemoryUnreadable as error:
        why = f"the tree at {root:#x} breaks off: {error.message}"
        return Found(tuple(nodes), why, kind_of(error))
    return Found(tuple(nodes))


XA_CHUNK_SHIFT = 6
XA_SHIFTS = range(0, 64, XA_CHUNK_SHIFT)
XA_INTERNAL, XA_TAG_MASK = 2, 3  # the two low bits of an entry (include/linux/xarray.h)
XA_LAST_SPECIAL = 4096  # internal entries up to here are marks such as "retry", not nodes


def xarray_entries(array: Value, limit: int = LIMIT) -> Entries:
    """The pointers in a struct xarray, with their indexes.

    One entry at index 0 lies in the head itself, without any node: a VM of one vCPU.
    Raises TypeMissing, MemberMissing, and MemoryUnreadable if the head itself cannot be read.
    """
    head = array.member("xa_head").pointer()
    if not _is_node(head):
        return Entries((Entry(0, head),) if _is_pointer(head) else ())
    found: list[Entry] = []
    kind: UnreadKind | None = None
    try:
        problem = _walk_nodes(array.kernel, head, found, limit)
    except MemoryUnreadable as error:
        problem, kind = f"a node of the xarray is unreadable: {error.message}", kind_of(error)
    return Entries(tuple(sorted(found, key=lambda entry: entry.index)), problem, kind)


def _walk_nodes(kernel: Kernel, head: KernelVirt, found: list[Entry], limit: int) -> str:
    waiting = [(head, 0)]
    seen: set[int] = set()
    while waiting:
        entry, base = waiting.pop()
        if entry in seen or len(seen) >= limit:
            return f"the xarray comes back to {entry:#x}, or has more than {limit} nodes"
        seen.add(entry)
        node = object_at(kernel, KernelVirt(entry - XA_INTERNAL), "xa_node")
        shift = node.member("shift").number()
        if shift not in XA_SHIFTS:
            return f"a node of the xarray has a shift of {shift}"
        slots = node.member("slots")
        pointers = [slots.index(place).pointer() for place in range(slots.type.count)]
        for place, pointer in enumerate(pointers):
            index = base + (place << shift)
            if _is_node(pointer) and shift >= XA_CHUNK_SHIFT:
                waiting.append((pointer, index))
            elif _is_pointer(pointer):
                found.append(Entry(index, pointer))
    return ""


def _is_node(entry: int) -> bool:
    return entry & XA_TAG_MASK == XA_INTERNAL and entry > XA_LAST_SPECIAL


def _is_pointer(entry: int) -> bool:
    return entry != 0 and entry & XA_TAG_MASK == 0
