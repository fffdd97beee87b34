# SPDX-License-Identifier: GPL-2.0-or-later
"""The stub's parts that need no machine: packets, the target description, page walks."""

from __future__ import annotations

import random

import pytest
from bochs_lab import target_xml
from bochs_lab.rsp import LONGEST, Decoder, Event, Mark, frame, unescape
from bochs_lab.translation import (
    EPT,
    FIVE_LEVEL,
    FOUR_LEVEL,
    PAE,
    TWO_LEVEL,
    TWO_LEVEL_LARGE,
    Format,
    walk,
)


def events(*pieces: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_a_frame_is_the_manuals() -> None:
    assert frame(b"OK") == b"$OK#9a"
    assert frame(b"") == b"$#00"


def test_any_bytes_come_back_whole_however_they_are_cut() -> None:
    source = random.Random(4)
    payloads = [source.randbytes(source.randrange(80)) + b"}#$*\x03" for _ in range(200)]
    stream = b"+".join(frame(payload) for payload in payloads)
    assert all(b"#" not in frame(payload)[1:-3] for payload in payloads)
    pieces = []
    while stream:
        cut = source.randrange(1, 40)
        pieces.append(stream[:cut])
        stream = stream[cut:]
    found = events(*pieces)
    assert [event for event in found if isinstance(event, bytes)] == payloads
    assert set(found) - set(payloads) == {Mark.ACK}


def test_ctrl_c_counts_only_between_packets() -> None:
    assert events(b"\x03") == [Mark.INTERRUPT]
    assert events(b"$a\x03#64") == [b"a\x03"]
    assert events(b"+-$c#63\x03") == [Mark.ACK, Mark.NACK, b"c", Mark.INTERRUPT]


def test_a_broken_packet_does_not_hide_the_next() -> None:
    assert events(b"$g#00$?#3f") == [Mark.BROKEN, b"?"]
    assert events(b"$g#zz$?#3f") == [Mark.BROKEN, b"?"]
    assert events(b"noise\n$?#3F") == [b"?"]


def test_a_packet_without_end_is_given_up() -> None:
    assert events(b"$" + b"a" * LONGEST, b"a", b"$?#3f") == [Mark.BROKEN, b"?"]


def test_an_escape_flips_bit_5() -> None:
    assert unescape(b"}\x03}]x}\x0a") == b"#}x*"


def test_the_description_has_qemus_registers() -> None:
    found = {register.name: number for number, register in enumerate(target_xml.registers())}
    assert (found["rax"], found["rip"], found["fs_base"], found["cr3"]) == (0, 16, 24, 29)
    assert len(target_xml.encode_all(lambda name: 0)) == 608
    assert target_xml.document("nothing.xml") is None


def test_a_register_is_cut_to_its_width() -> None:
    flags = target_xml.registers()[17]
    assert flags.encode(1 << 40 | 0x246) == bytes.fromhex("46020000")


ADDRESS = 0x40_2030_4567
LARGE = 0xC0_0000
ALLOWED = 7  # present, writable, user; in EPT read, write, execute


@pytest.mark.parametrize(
    ("form", "indices", "leaf", "expected"),
    [
        (FOUR_LEVEL, (0, 0x100, 0x101, 0x104), 0x9000, 0x9567),
        (FOUR_LEVEL, (0, 0x100, 0x101), LARGE | 0x80, 0xD0_4567),
        (EPT, (0, 0x100, 0x101), LARGE | 0x80, 0xD0_4567),
        (FIVE_LEVEL, (0, 0, 0x100, 0x101, 0x104), 0x9000, 0x9567),
        (PAE, (0, 0x101, 0x104), 0x9000, 0x9567),
        (TWO_LEVEL, (0x80, 0x304), 0x9000, 0x9567),
        (TWO_LEVEL_LARGE, (0x80,), LARGE | 0x80, 0xF0_4567),
    ],
)
def test_a_walk_ends_where_the_tables_say(
    form: Format, indices: tuple[int, ...], leaf: int, expected: int
) -> None:
    address = ADDRESS & (1 << form.width) - 1
    entries = {}
    for level, index in enumerate(indices):
        below = leaf if level == len(indices) - 1 else (level + 2) << 12
        entries[((level + 1) << 12) + index * form.entry_size] = below | ALLOWED

    def read(place: int, length: int) -> bytes:
        return entries.get(place, 0).to_bytes(length, "little")

    assert walk(form, read, 0x1000, address) == expected
    assert walk(form, read, 0x1000, address ^ 1 << form.width - 1) is None
