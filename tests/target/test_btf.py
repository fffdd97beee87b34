# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from gdb_nept.errors import BadInput, MemberMissing
from gdb_nept.target import btf_index as btf
from gdb_nept.target.btf import Btf, check_whole
from gdb_nept.target.btf_index import pack, unpack
from gdb_nept.target.btf_types import BtfReader
from gdb_nept.target.ports import CType
from tests.target.btf_writer import BtfWriter


def vmlinux() -> BtfWriter:
    made = BtfWriter()
    number = made.integer("int", 4, signed=True)
    long = made.integer("long unsigned int", 8)
    u64 = made.add(btf.TYPEDEF, "u64", made.add(btf.CONST, "", long))
    union = made.struct("", 8, ("a", u64, 0), ("b", number, 0), kind=btf.UNION)
    anonymous = made.struct("", 16, ("x", number, 0), ("", union, 64))
    array = made.add(btf.ARRAY, "", 0, number, number, 5)
    made.struct("outer", 64, ("first", u64, 0), ("", anonymous, 64), ("five", array, 192))
    made.struct("list_head", 16, ("next", made.next + 1, 0), ("prev", made.next + 1, 64))
    made.add(btf.PTR, "", made.next - 1)
    made.flagged(
        "flags", 8, ("low", number, 0, 3), ("high", number, 3, 5), ("whole", number, 32, 0)
    )
    colors = (made.text("RED"), 0, made.text("MINUS"), 2**32 - 1)
    made.add(btf.ENUM, "color", 4, *colors, count=2, flag=True)
    made.add(btf.ENUM64, "wide", 8, made.text("BIG"), 1, 1, count=1)
    made.add(btf.FWD, "kvm_mmu_page", 0)
    made.struct("holder", 8, ("page", made.add(btf.PTR, "", made.next - 1), 0))
    made.add(btf.TYPEDEF, "atomic_t", made.struct("", 4, ("counter", number, 0)))
    made.add(btf.FUNC, "f", made.add(btf.FUNC_PROTO, "", 0, 0, number, count=1), count=1)
    made.add(btf.DATASEC, ".data..percpu", 8, 1, 0, 8, count=1)
    made.add(btf.FLOAT, "double", 8)
    return made


@pytest.fixture
def reader() -> BtfReader:
    return BtfReader(Btf(vmlinux().blob()))


def struct(reader: BtfReader, name: str) -> CType:
    found = reader.named(name)
    assert found is not None
    return found


def test_anonymous_members_typedefs_and_qualifiers_are_looked_through(reader: BtfReader) -> None:
    outer = struct(reader, "outer")
    assert (outer.kind, outer.size) == ("struct", 64)
    assert outer.member("x").offset == 8
    assert outer.member("a").offset == outer.member("b").offset == 16
    assert outer.member("a").type.name == "long unsigned int"
    assert outer.names is not None
    assert outer.names() == ("first", "x", "a", "b", "five")
    five = outer.member("five").type
    assert (five.kind, five.count, five.size, five.element().signed) == ("array", 5, 20, True)
    with pytest.raises(MemberMissing):
        outer.member("nothing")


def test_types_may_be_cyclic(reader: BtfReader) -> None:
    head = struct(reader, "list_head")
    assert head.member("next").type.element().element if head.member("next").type.target else None
    assert head.member("next").type.element().member("prev").offset == 8


def test_bit_fields_of_both_kinds(reader: BtfReader) -> None:
    flags = struct(reader, "flags")
    high = flags.member("high")
    assert (high.bit_offset, high.bit_size) == (3, 5)
    assert (flags.member("whole").bit_size, flags.member("whole").offset) == (0, 4)
    old = BtfWriter()
    narrow = old.integer("unsigned int", 4, bits=3)
    old.struct("before_5_0", 4, ("bits", narrow, 7))
    found = struct(BtfReader(Btf(old.blob())), "before_5_0").member("bits")
    assert (found.bit_offset, found.bit_size) == (7, 3)


def test_enumerations(reader: BtfReader) -> None:
    kinds = [reader.type(number) for number in range(1, reader.btf.end)]
    enums = {kind.name: kind.enumerators for kind in kinds if kind.kind == "enum"}
    assert enums["color"] == (("RED", 0), ("MINUS", -1))
    assert enums["wide"] == (("BIG", (1 << 32) + 1),)
    assert {kind.kind for kind in kinds} >= {"float", "function", "pointer", "union"}


def test_a_typedef_of_an_anonymous_structure_has_a_name(reader: BtfReader) -> None:
    assert struct(reader, "atomic_t").member("counter").type.size == 4
    assert reader.named("no_such") is None


def test_split_btf_goes_on_where_its_base_ends(reader: BtfReader) -> None:
    split = BtfWriter(vmlinux())
    pointer = split.add(btf.PTR, "", split.next + 1)
    split.struct("kvm_mmu_page", 24, ("spt", pointer, 0), ("next", 1, 64), ("mine", 2, 128))
    split.struct("holder2", 8, ("page", pointer, 0))
    module = BtfReader(Btf(split.blob(), reader.btf, "kvm's BTF"))
    page = struct(module, "kvm_mmu_page")
    assert page.member("next").type.name == "int"
    assert page.member("mine").offset == 16
    assert page.member("spt").type.element().size == 24
    assert module.named("outer") is None  # the base's own are not the module's
    assert struct(module, "holder2").size == 8


def test_a_declared_structure_is_completed_from_elsewhere(reader: BtfReader) -> None:
    declared = struct(reader, "holder").member("page").type.element()
    assert declared.size == 0
    with pytest.raises(MemberMissing, match="only declared"):
        declared.member("spt")
    page = CType("struct", "kvm_mmu_page", 24)
    knows = BtfReader(reader.btf, {"kvm_mmu_page": page}.get)
    assert struct(knows, "holder").member("page").type.element() is page


@pytest.mark.parametrize("cut", [0, 1, 10, 23, 24, 100, -1])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(BadInput):
        Btf(vmlinux().blob()[:cut])


def test_unknown_kinds_and_types_without_end_are_refused(reader: BtfReader) -> None:
    strange = BtfWriter()
    strange.add(25, "new", 0)
    with pytest.raises(BadInput, match="type 1"):
        Btf(strange.blob())
    circle = BtfWriter()
    circle.add(btf.TYPEDEF, "self", 1)
    circle.add(btf.ARRAY, "", 0, 2, 2, 2)
    circle.struct("bad", 4, ("gone", 99, 0))
    circle.struct("worse", 4, ("", 4, 0))
    round_and_round = BtfReader(Btf(circle.blob()))
    for number in (1, 2, 99):
        with pytest.raises(BadInput):
            round_and_round.type(number)
    with pytest.raises(BadInput):
        struct(round_and_round, "bad").member("gone")
    for _ in range(2):  # the same answer the second time
        with pytest.raises(BadInput, match="without end"):
            struct(round_and_round, "worse").has("x")


def test_work_on_a_hostile_structure_is_bounded() -> None:
    """Two anonymous members of the structure before, sixty times: 2**60 members."""
    writer = BtfWriter()
    last = writer.struct("bottom", 4, ("x", writer.integer("int", 4), 0))
    for _ in range(60):
        last = writer.struct("", 4, ("", last, 0), ("", last, 0))
    top = writer.struct("top", 4, ("", last, 0))
    with pytest.raises(BadInput, match="without end"):
        BtfReader(Btf(writer.blob())).type(top).member("x")


def test_an_array_of_more_elements_than_memory_is_damaged() -> None:
    writer = BtfWriter()
    number = writer.integer("int", 4)
    array = writer.add(btf.ARRAY, "", 0, number, number, 1 << 31)
    with pytest.raises(BadInput, match="2147483648 elements"):
        BtfReader(Btf(writer.blob())).type(array)


def test_an_array_of_arrays_that_is_larger_than_memory_is_damaged() -> None:
    """2**60 characters: what reads a name would not end."""
    writer = BtfWriter()
    last = writer.integer("char", 1)
    for _ in range(3):
        last = writer.add(btf.ARRAY, "", 0, last, 1, 1 << 20)
    with pytest.raises(BadInput, match="larger than a kernel"):
        BtfReader(Btf(writer.blob())).type(last)


@pytest.mark.parametrize("kind", [btf.INT, btf.ENUM])
def test_a_number_that_is_wider_than_any_is_damaged(kind: int) -> None:
    writer = BtfWriter()
    number = writer.add(kind, "huge", 1 << 30, *([64] if kind == btf.INT else []))
    with pytest.raises(BadInput, match="a number of 1073741824 bytes"):
        BtfReader(Btf(writer.blob())).type(number)


def test_arrays_of_arrays_have_an_end() -> None:
    writer = BtfWriter()
    last = writer.integer("int", 4)
    for _ in range(500):
        last = writer.add(btf.ARRAY, "", 0, last, 1, 2)
    reader = BtfReader(Btf(writer.blob()))
    for _ in range(2):
        with pytest.raises(BadInput, match="no end"):
            reader.type(last)
    assert reader.type(4).size == 32


@pytest.mark.parametrize("bytes_less", [1, 4, 8, 12])
def test_a_type_section_that_ends_in_a_type_is_refused(bytes_less: int) -> None:
    writer = vmlinux()
    writer.struct("last", 4, ("x", 1, 0))
    writer.types = writer.types[:-bytes_less]
    with pytest.raises(BadInput, match=r"cut off|none we know"):
        Btf(writer.blob())


def test_an_index_made_before_gives_the_same_types() -> None:
    made = Btf(vmlinux().blob())
    kept = unpack(pack(made.index))
    assert kept is not None
    again = Btf(vmlinux().blob(), index=kept)
    names = [made.name(made.words[place]).decode() for place in made.index.places]
    assert {name: made.named(name) for name in names} == {name: again.named(name) for name in names}
    assert unpack(pack(made.index)[:-1]) is None
    assert unpack(b"") is None


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (("x", 99, 0), "type 99"),
        (("x", 1, 4096), "beyond"),
        (("x", 1, 1 << 20), "beyond"),
    ],
)
def test_a_damaged_member_is_found(member: tuple[str, int, int], why: str) -> None:
    writer = vmlinux()
    check_whole(Btf(writer.blob()))
    writer.struct("damaged", 8, member)
    with pytest.raises(BadInput, match=why):
        check_whole(Btf(writer.blob()))


def test_the_parameters_of_a_function_are_counted() -> None:
    writer = BtfWriter()
    number = writer.integer("int", 4)
    function = writer.add(btf.FUNC_PROTO, "", number, 0, number, 0, number, 0, number, count=3)
    pointer = writer.add(btf.PTR, "", function)
    writer.struct("ops", 8, ("inject_page_fault", pointer, 0))
    found = BtfReader(Btf(writer.blob())).named("ops")
    assert found is not None
    called = found.member("inject_page_fault").type.element()
    assert (called.kind, called.count) == ("function", 3)
