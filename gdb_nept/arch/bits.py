# SPDX-License-Identifier: GPL-2.0-or-later
"""A bit is written once, with its name and its meaning.

    class Eptp(Word):
        accessed_dirty = bit(6, "enable accessed and dirty flags")
        address = bits(51, 12, "physical address of the top table", shift=12)

    Eptp(0x105e).accessed_dirty  -> 1        Eptp(0x105e).address -> 0x1000

Decoding, rendering, help and the test that no two fields overlap all use those lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, overload

ALL_BITS = (1 << 64) - 1  # of a word


class Bits:
    """Bits `high`:`low` of a word; as an attribute of a Word's instance it is their number."""

    def __init__(self, high: int, low: int, meaning: str, short: str, shift: int) -> None:
        self.high = high
        self.low = low
        self.meaning = meaning
        self.short = short
        self.shift = shift  # of the number, at most `low`: an address keeps its place
        self.mask = ((1 << (high - low + 1)) - 1) << low
        self._down = low - shift
        self.name = ""

    def __set_name__(self, owner: type[Word], name: str) -> None:
        self.name = name
        self.short = self.short or name

    @overload
    def __get__(self, word: None, owner: type[Word]) -> Bits: ...
    @overload
    def __get__(self, word: Word, owner: type[Word]) -> int: ...
    def __get__(self, word: Word | None, owner: type[Word]) -> Bits | int:
        if word is None:
            return self
        return (word.value & self.mask) >> self._down

    @property
    def place(self) -> str:
        """'7', or '51:12', as the SDM writes it."""
        return str(self.low) if self.high == self.low else f"{self.high}:{self.low}"


def bit(number: int, meaning: str, short: str = "") -> Bits:
    return Bits(number, number, meaning, short, 0)


def bits(high: int, low: int, meaning: str, short: str = "", shift: int = 0) -> Bits:
    return Bits(high, low, meaning, short, shift)


@dataclass(frozen=True)
class Named:
    """One field of a word as a reader sees it."""

    name: str
    place: str
    number: int
    meaning: str
    short: str


@dataclass(frozen=True)
class Word:
    """A number whose bits have names.  Subclasses declare the bits."""

    value: int
    title: ClassVar[str] = ""  # what the word is, in the SDM's words
    zero_says: ClassVar[tuple[str, ...]] = ()  # the fields that mean something when they are 0

    @classmethod
    def fields(cls) -> tuple[Bits, ...]:
        """All declared fields, lowest bit first."""
        found = [
            field
            for owner in reversed(cls.__mro__)
            for field in vars(owner).values()
            if isinstance(field, Bits)
        ]
        return tuple(sorted(found, key=lambda field: field.low))

    def named(self, zeros: bool = False) -> tuple[Named, ...]:
        """The fields that are set or whose 0 says something (with `zeros`, all), and the bits
        that have no name."""
        rows = []
        rest = self.value
        for field in self.fields():
            number = field.__get__(self, type(self))
            rest &= ~field.mask
            if number or zeros or field.name in self.zero_says:
                rows.append(Named(field.name, field.place, number, field.meaning, field.short))
        if rest:
            rows.append(Named("other", f"{rest:#x}", rest, "bits with no name here", "other"))
        return tuple(rows)

    @classmethod
    def build(cls, **numbers: int) -> int:
        """The word's value from its fields; KeyError for a name that is none."""
        known = {field.name: field for field in cls.fields()}
        value = 0
        for name, number in numbers.items():
            field = known[name]
            value |= ((number >> field.shift) << field.low) & field.mask
        return value
