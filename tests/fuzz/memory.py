# SPDX-License-Identifier: GPL-2.0-or-later
"""A real memory in which words change under the commands' eyes.

What a command reads of it is recorded once.  A case replaces some of those words and runs a command
again: it must answer, or say in one message what is wrong, having read no more than a bound.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gdb_nept.address import HostPhys
from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.numbers import Usage, plain_number
from gdb_nept.errors import NeptError
from gdb_nept.live.stops import Stops
from gdb_nept.memory import budget
from gdb_nept.memory.ram import Ram
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.taken import Taken
from gdb_nept.nested.session import Session
from gdb_nept.render.page import WIDTH
from gdb_nept.target.attachment import Attachment, lacking
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.linux import attach
from gdb_nept.target.running import Running, Selected

WORD = 8
LONGEST = 256  # bytes of a read whose words are all worth a change; of a longer one, some
#: Of one command: the fields that its budget has, and its entries.  The widest that is no damaged
#: list of vCPUs takes some thousands.
MOST_READS = budget.FIELDS + 40_000
MISTAKE = "a mistake in gdb_nept"  # what the door says of an error that nobody foresaw

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("target",),
    ("vms", "--slots"),
    ("vmcs12",),
    ("ept", "--limit", "20000"),
    ("ept", "--shadow", "--limit", "20000", "--json"),
    ("ept", "--l1", "--limit", "20000", "--json-lines"),
    ("walk", "0x2000000"),
    ("walk", "0x2806000", "--json"),
    ("walk", "0xfee00000", "--tables"),
    ("predict", "0x2000000", "--write"),
    ("predict", "0x1000", "--linear"),
    ("check",),
    ("check", "--json"),
    ("walk", "--virtual", "0x2000000"),
    ("walk", "--virtual", "0x7fffffff0000", "--json"),
    ("compare", "--limit", "2000"),
    ("compare", "0x2000000+64M", "--json"),
    ("map", "--limit", "20000"),
    ("map", "--limit", "20000", "--json"),
    ("regs", "--all"),
    ("x", "/16xg", "0x2000000"),
    ("x", "/8i", "0x2000000", "--json"),
    ("x", "/4s", "0x1000", "--l1"),
    ("who", "0x6020000"),
    ("who", "0x1000", "--json"),
)


class TooMuch(Exception):
    """A command reads more than any should: what it looks at has no end."""


class Changing:
    """`words` replace those of the memory below, by address; reads are counted, and recorded while
    `record` is a set."""

    def __init__(self, below: RawMemory[HostPhys]) -> None:
        self.below = below
        self.words: dict[int, int] = {}
        self.record: dict[int, None] | None = None
        self.reads = 0

    def read(self, address: HostPhys, size: int) -> bytes:
        self.reads += 1
        if self.reads > MOST_READS:
            raise TooMuch
        data = self.below.read(address, size)
        if self.record is not None:
            step = WORD if size <= LONGEST else size // 64 & -WORD
            for place in range(address & -WORD, address + size, step):
                self.record[place] = None
        changed = [place for place in self.words if address - WORD < place < address + size]
        if not changed:
            return data
        whole = bytearray(data)
        for place in changed:
            for number, byte in enumerate(self.words[place].to_bytes(WORD, "little")):
                if 0 <= place + number - address < size:
                    whole[place + number - address] = byte
        return bytes(whole)


@dataclass
class Here:
    """The Context of a command on the memory."""

    kernel: LinuxKernel
    current: Session

    def session(self) -> Session:
        return self.current

    def attachment(self) -> Attachment:
        return Attachment("fuzz", "", self.kernel, lacking(self.kernel))

    def physical(self) -> Ram:
        raise Usage("a search of all memory is not asked for here")

    @property
    def taken(self) -> Taken:
        return Taken()

    @property
    def stops(self) -> Stops:
        raise Usage("this does not run")

    def number(self, written: str) -> int:
        return plain_number(written)

    def running(self) -> AbstractContextManager[Running]:
        raise Usage("this does not run")

    def doubt(self) -> None:
        pass

    @property
    def columns(self) -> int:
        return WIDTH

    def tell(self, line: str, plain: bool = False) -> None:
        pass

    def selected(self) -> Selected:
        raise Usage("a dump has no registers")


class Fuzzed:
    """A snapshot under changes."""

    def __init__(self, snapshot: Path, cache: Path) -> None:
        raw: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
        self.memory = Changing(raw)
        self.kernel = attach(self.memory, raw.size, cache=cache)
        self.here = Here(self.kernel, Session(self.kernel))
        self.places = {words: self._recorded(words) for words in COMMANDS}

    def _recorded(self, words: tuple[str, ...]) -> tuple[int, ...]:
        self.memory.record = {}
        self.answer(words)
        found, self.memory.record = tuple(self.memory.record), None
        return found

    def answer(self, words: tuple[str, ...]) -> str:
        """What the command answers, or its error; from memory as it stands now."""
        self.kernel.forget()
        self.here.current.drop()
        self.memory.reads = 0
        command = command_named(words[0])
        assert command is not None
        try:
            return command.answer(self.here, words[1:], False)
        except NeptError as error:
            return f"error: {error}"

    @contextmanager
    def changed(self, words: dict[int, int]) -> Iterator[None]:
        self.memory.words = words
        try:
            yield
        finally:
            self.memory.words = {}

    def case(self, dice: random.Random) -> tuple[str, str]:
        """One case: the kind of it, and what went wrong, or ''."""
        words = dice.choice(COMMANDS)
        places = self.places[words]
        changes = {
            place: self._value(dice, place, places)
            for place in dice.sample(places, min(len(places), dice.choice((1, 1, 1, 2, 5, 40))))
        }
        with self.changed(changes):
            return words[0], self._problem(words, changes)

    def _problem(self, words: tuple[str, ...], changes: dict[int, int]) -> str:
        told = {f"{place:#x}": f"{value:#x}" for place, value in changes.items()}
        try:
            answer = self.answer(words)
        except TooMuch:
            return f"{words} reads without end; changed: {told}"
        if MISTAKE in answer:
            return f"{words}: {answer.splitlines()[0]}; changed: {told}"
        control = {sign for sign in answer if sign < " " and sign != "\n"}
        return f"{words}: control characters {control}; changed: {told}" if control else ""

    def _value(self, dice: random.Random, place: int, places: tuple[int, ...]) -> int:
        """A value that a damaged, or hostile, memory may hold there."""
        now = int.from_bytes(self.memory.below.read(HostPhys(place), WORD), "little")
        other = int.from_bytes(
            self.memory.below.read(HostPhys(dice.choice(places)), WORD), "little"
        )
        direct_map = self.kernel.layout.page_offset_base
        return dice.choice(
            (
                0,
                (1 << 64) - 1,
                now ^ 1 << dice.randrange(64),
                now ^ dice.randrange(1 << 64),
                now & ~0xFFF | dice.randrange(1 << 12),
                now & 0xFFF | dice.randrange(1 << 40) << 12,
                other,
                direct_map + place,
                direct_map + dice.choice(places),
                dice.randrange(256),
                dice.randrange(1 << 64),
                now + dice.choice((-4096, -8, -1, 1, 8, 4096)) & (1 << 64) - 1,
                int.from_bytes(b"\x1b]0;\x07\n\r\x9b", "little"),
            )
        )
