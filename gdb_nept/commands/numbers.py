# SPDX-License-Identifier: GPL-2.0-or-later
"""Words as users write them: addresses, ranges, sizes, addresses in a segment, names of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

from gdb_nept.arch.ept import WIDEST
from gdb_nept.errors import BadArgument


class Usage(BadArgument):
    """The arguments do not fit the command."""


class Written(int):
    """A number, and how it was written: as what is told by the registers that are named there.
    Of SEG:OFFSET it is the offset."""

    text: str
    segment: str = ""

    def __new__(cls, number: int, text: str) -> Written:
        made = super().__new__(cls, number)
        made.text = text
        return made


_SEGMENT = re.compile(r"[c-gs]s|(0x)?[0-9a-f]{1,4}", re.IGNORECASE)
_DASHED = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)-(0[xX][0-9a-fA-F]+|\d+)")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|\d+[kKmMgGtT]?")


def address_range(written: str, number: Callable[[str], int]) -> tuple[int, int]:
    """LOW..HIGH or LOW+SIZE as (low, high), high not included; ADDRESS is its page.

    Raises Usage for what is no range of physical addresses."""
    if _DASHED.fullmatch(written):  # which a debugger takes for a difference
        raise Usage(f"'{written}' is no range", "Write LOW..HIGH, or LOW+SIZE.")
    for separator in ("..", "+"):
        first, found, second = written.partition(separator)
        if found and first and second:
            low, other = number(first), number(second)
            high = low + other if separator == "+" else other
            break
    else:
        low = number(written) & ~0xFFF
        high = low + 0x1000
    if not low < high:
        raise Usage(f"'{written}' is an empty range", "Write LOW..HIGH, or LOW+SIZE.")
    if not 0 <= low < high <= 1 << WIDEST:
        beyond = f"Physical addresses have {WIDEST} bits at most."
        raise Usage(f"'{written}' is no range of physical addresses", beyond)
    return low, high


def logical(written: str, number: Callable[[str], int]) -> Written:
    """ADDRESS, or SEG:OFFSET, whose SEG is a segment register or a selector in hexadecimal."""
    segment, found, offset = written.partition(":")
    if not (found and _SEGMENT.fullmatch(segment) and not offset.startswith(":")):
        return Written(number(written), written)
    made = Written(number(offset), offset)
    made.segment = segment
    return made


def positive(number: int) -> int:
    """Raises Usage for 0 and what is below, as a signed number of 64 bits, too."""
    if not 1 <= number < 1 << 63:
        raise Usage(f"{number} is no number of things", "Give a number from 1 on.")
    return number


def file_named(written: str) -> Path:
    """Raises Usage for '', which Path takes for the folder that we are in."""
    if not written:
        raise Usage("the name of a file is empty", "Is it that of a variable which is not set?")
    return Path(written)


def physical_width(bits: int) -> int:
    """MAXPHYADDR: 32, where a processor does not tell it, to 52; raises Usage."""
    if not 32 <= bits <= WIDEST:
        advice = f"Physical addresses have 32 to {WIDEST} bits."
        raise Usage(f"no processor has physical addresses of {bits} bits", advice)
    return bits


def negated(written: str) -> bool:
    """Whether it is a number with a sign, which no expression of gdb's is needed for."""
    sign, number = written[:1], written[1:].strip()
    return sign == "-" and bool(_NUMBER.fullmatch(number))


def plain_number(written: str) -> int:
    """0x1000, 4096, 4K, 2M; raises Usage."""
    scale = {"k": 10, "m": 20, "g": 30, "t": 40}.get(written[-1:].lower(), 0)
    try:
        number = int(written[:-1] if scale else written, 0) << scale
    except ValueError:
        raise Usage(f"'{written}' is not a number", "Write 0x1000, 4096 or 4K.") from None
    if not 0 <= number < 1 << 64:
        raise Usage(f"'{written}' is not a 64-bit number", "0 to 0xffffffffffffffff.")
    return number
