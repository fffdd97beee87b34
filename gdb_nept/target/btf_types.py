# SPDX-License-Identifier: GPL-2.0-or-later
"""C types (ports.CType) out of BTF, each built when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gdb_nept.errors import BadInput, MemberMissing
from gdb_nept.target import btf_index as btf
from gdb_nept.target.btf import Btf, Record
from gdb_nept.target.ports import CType, Member

LOOKED_THROUGH = frozenset(
    (btf.TYPEDEF, btf.VOLATILE, btf.CONST, btf.RESTRICT, btf.TYPE_TAG, btf.DECL_TAG, btf.VAR)
)
DEEPEST = 64  # typedefs of typedefs, arrays of arrays
MOST_ELEMENTS = 1 << 20  # of an array
MOST_BYTES = 1 << 31  # of an array, arrays of arrays included
WIDEST_NUMBER = 16  # bytes: __int128
MOST_MEMBERS = 1 << 16  # of one structure, those of its anonymous members included
POINTER_SIZE = 8
VOID = CType("void", "void", 0)


@dataclass(frozen=True)
class _Listed:
    """A member as BTF lists it; `offset` in bits."""

    name: str
    type: int
    offset: int
    bit_size: int


Elsewhere = Callable[[str], "CType | None"]


class BtfReader:
    """The types of one Btf.  `elsewhere` finds a structure that is only declared here."""

    def __init__(self, blob: Btf, elsewhere: Elsewhere | None = None) -> None:
        self.btf = blob
        self._elsewhere = elsewhere
        self._types: dict[int, CType] = {}
        self._named: dict[str, CType | None] = {}
        self._members: dict[int, dict[str, _Listed]] = {}
        self._unfinished: set[int] = set()

    def named(self, name: str) -> CType | None:
        """struct, union or typedef `name` of this BTF itself, not of its base."""
        if name not in self._named:  # the search goes through all strings
            records = self.btf.named(name)
            self._named[name] = self.type(records[0].number) if records else None
        return self._named[name]

    def type(self, number: int) -> CType:
        """Type `number`, with typedefs and qualifiers taken off.  Raises BadInput."""
        found = self._types.get(number)
        if found is None:
            if number in self._unfinished or len(self._unfinished) > DEEPEST:
                raise BadInput(f"{self.btf.origin}: type {number} has no end", btf.ADVICE)
            self._unfinished.add(number)
            try:
                found = self._types[number] = self._build(self._bare(number))
            finally:
                self._unfinished.discard(number)
        return found

    def _bare(self, number: int) -> Record | None:
        for _ in range(DEEPEST):
            if number == 0:
                return None
            record = self.btf.record(number)
            if record.kind not in LOOKED_THROUGH:
                return record
            number = record.size_or_type
        raise BadInput(f"{self.btf.origin}: type {number} is a typedef of itself", btf.ADVICE)

    def _build(self, record: Record | None) -> CType:
        if record is None:
            return VOID
        kind, name, size = record.kind, record.name, record.size_or_type
        if kind in (btf.INT, btf.ENUM, btf.ENUM64) and size > WIDEST_NUMBER:
            raise BadInput(f"{self.btf.origin}: a number of {size} bytes", btf.ADVICE)
        if kind == btf.INT:
            signed = bool(self.btf.trailer(record, 1)[0] >> 24 & 1)
            return CType("int", name, size, signed)
        if kind in (btf.ENUM, btf.ENUM64):
            return CType("enum", name, size, record.flag, enumerators=self._enumerators(record))
        if kind == btf.PTR:
            return CType("pointer", "", POINTER_SIZE, target=lambda: self.type(size))
        if kind == btf.ARRAY:
            return self._array(record)
        if kind in (btf.STRUCT, btf.UNION):
            return self._structure(record)
        if kind == btf.FWD:
            return self._declared(record)
        if kind == btf.FLOAT:
            return CType("float", name, size)
        parameters = record.count if kind == btf.FUNC_PROTO else 0
        return CType("function", name, 0, count=parameters)

    def _enumerators(self, record: Record) -> tuple[tuple[str, int], ...]:
        wide = record.kind == btf.ENUM64
        step, width = (3, 64) if wide else (2, 32)
        words = self.btf.trailer(record, step * record.count)
        found = []
        for place in range(0, len(words), step):
            value = words[place + 1] | (words[place + 2] << 32 if wide else 0)
            if record.flag and value >> (width - 1):
                value -= 1 << width
            found.append((self.btf.string(words[place]), value))
        return tuple(found)

    def _array(self, record: Record) -> CType:
        element, _index_type, count = self.btf.trailer(record, 3)
        if count > MOST_ELEMENTS:
            raise BadInput(f"{self.btf.origin}: an array of {count} elements", btf.ADVICE)
        size = self.type(element).size * count
        if size > MOST_BYTES:
            raise BadInput(f"{self.btf.origin}: an array larger than a kernel", btf.ADVICE)
        return CType("array", "", size, count=count, target=lambda: self.type(element))

    def _structure(self, record: Record) -> CType:
        def lookup(name: str) -> Member:
            found = self._members_of(record).get(name)
            if found is None:
                raise MemberMissing(record.name or "(anonymous)", name)
            return self._member(found)

        kind = "struct" if record.kind == btf.STRUCT else "union"
        return CType(
            kind,
            record.name,
            record.size_or_type,
            lookup=lookup,
            names=lambda: tuple(self._members_of(record)),
        )

    def _declared(self, record: Record) -> CType:
        """A structure that this BTF only declares: its body may be in another one."""
        own = [each for each in self.btf.named(record.name) if each.kind != btf.TYPEDEF]
        if own:
            return self.type(own[0].number)
        found = self.btf.base and BtfReader(self.btf.base).named(record.name)
        if found is None and self._elsewhere is not None:
            found = self._elsewhere(record.name)
        return found or self._unknown(record)

    def _unknown(self, record: Record) -> CType:
        def lookup(name: str) -> Member:
            raise MemberMissing(f"{record.name} (only declared in {self.btf.origin})", name)

        kind = "union" if record.flag else "struct"
        return CType(kind, record.name, 0, lookup=lookup, names=lambda: ())

    def _members_of(self, record: Record) -> dict[str, _Listed]:
        found = self._members.get(record.number)
        if found is None:
            found = {}
            for listed in self._collected(record):
                found.setdefault(listed.name, listed)
            self._members[record.number] = found
        return found

    def _collected(self, record: Record) -> Iterator[_Listed]:
        """The members, those of anonymous ones in their place.  Raises BadInput for more of them
        than any structure has."""
        looked_at = 0
        waiting = [self._own_members(record, 0)]
        while waiting:
            one = next(waiting[-1], None)
            if one is None:
                waiting.pop()
                continue
            looked_at += 1
            if looked_at > MOST_MEMBERS or len(waiting) > DEEPEST:
                raise BadInput(f"{self.btf.origin}: {record.name} has members without end")
            if one.name:
                yield one
                continue
            inner = self._bare(one.type)
            if inner and inner.kind in (btf.STRUCT, btf.UNION):
                waiting.append(self._own_members(inner, one.offset))

    def _own_members(self, record: Record, start: int) -> Iterator[_Listed]:
        """As BTF lists them; the structure begins at bit `start` of the one asked for."""
        words = self.btf.trailer(record, 3 * record.count)
        for place in range(0, len(words), 3):
            name_at, number, offset = words[place : place + 3]
            bit_size = 0
            if record.flag:
                offset, bit_size = offset & 0xFFFFFF, offset >> 24
            yield _Listed(self.btf.string(name_at), number, start + offset, bit_size)

    def _member(self, listed: _Listed) -> Member:
        """Before 5.0's kind_flag a bit field's place was in its integer type."""
        offset, bit_size = listed.offset, listed.bit_size
        bare = self._bare(listed.type)
        if bare and bare.kind == btf.INT and not bit_size:
            encoding = self.btf.trailer(bare, 1)[0]
            if encoding & 0xFF != bare.size_or_type * 8:
                offset, bit_size = offset + (encoding >> 16 & 0xFF), encoding & 0xFF
        return Member(listed.name, offset, bit_size, self.type(listed.type))
