# SPDX-License-Identifier: GPL-2.0-or-later
"""A stub that misbehaves: it refuses, answers something else, loses its mode, or hangs up."""

from __future__ import annotations

import random
from pathlib import Path

from gdb_nept.address import HostPhys
from gdb_nept.commands.catalogue import command_named
from gdb_nept.errors import MemoryUnreadable, NeptError, TargetGone
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.session import Session
from gdb_nept.render import text
from gdb_nept.target.live import LiveTarget
from tests.fuzz.memory import MISTAKE, Here
from tests.memory.stubs import Machine
from tests.target.remotes import Remote

MOST_CALLS = 40_000  # of one case: a few commands
GARBAGE = ("", "E01", "0", "1", "OK", "\udcff\udcfe", "x" * 5000, "\x1b]0;\x07")
COMMANDS = (("vms",), ("ept", "--limit", "20000"), ("walk", "0x2000000"), ("check",), ("target",))
MTREE = 'FlatView #0\n AS "memory", root: system\n 0000000000000000-{:016x} (prio 0, ram): ram0\n'


class TooManyCalls(Exception):
    """A command asks the stub without end."""


class Misbehaving(Machine):
    """Of its answers so many (of 100) are wrong."""

    def __init__(self, memory: RawMemory[HostPhys], dice: random.Random, wrong: int) -> None:
        super().__init__("0", {"info mtree -f": MTREE.format(memory.size - 1)})
        self.below, self.dice, self.wrong = memory, dice, wrong
        self.calls = 0

    def _errs(self) -> bool:
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise TooManyCalls
        if self.gone or self.dice.random() < self.wrong / 10_000:
            self.gone = True
            raise TargetGone("the target does not answer")
        return self.dice.randrange(100) < self.wrong

    def packet(self, text: str) -> str:
        if not self._errs():
            return super().packet(text)
        if self.dice.random() < 0.3:
            super().packet(text)  # done, and the answer lost
        wrong = self.dice.choice(GARBAGE)
        return "" if text.startswith("Q") and wrong == "OK" else wrong  # nobody sees through that

    def monitor(self, text: str) -> str:
        return self.dice.choice(GARBAGE) if self._errs() else super().monitor(text)

    def read(self, address: int, size: int) -> bytes:
        if self._errs():
            how = self.dice.randrange(3)
            if how == 0:
                raise MemoryUnreadable(address, size, "E01")
            return bytes(size) if how == 1 else b"\xff" * size
        if self.mode != "1":
            raise MemoryUnreadable(address, size, "not a physical address")
        return self.below.read(HostPhys(address), size)

    def _take(self, text: str) -> None:
        if self.gone:
            raise TargetGone("gone")


class Connected(Here):
    """The Context of commands on a live target."""

    def __init__(self, live: LiveTarget) -> None:
        self.live = live

    def session(self) -> Session:
        return Session(self.live.kernel())

    def attachment(self):  # type: ignore[no-untyped-def]
        return self.live.attachment()


class Stubs:
    """A snapshot behind stubs of which each misbehaves in its own way."""

    def __init__(self, snapshot: Path) -> None:
        self.memory: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")

    def case(self, dice: random.Random) -> tuple[str, str]:
        stub = Misbehaving(self.memory, dice, dice.choice((0, 1, 5, 20, 50, 100)))
        live = LiveTarget(Remote(stub), lambda: None)
        here = Connected(live)
        asked = [dice.choice(COMMANDS) for _ in range(3)]
        for words in asked:
            problem = self._asked(live, here, words)
            if problem:
                return "stub", f"{asked}, {stub.wrong} of 100 wrong: {problem}"
        return "stub", self._left(stub, live)

    def _asked(self, live: LiveTarget, here: Connected, words: tuple[str, ...]) -> str:
        found = command_named(words[0])
        assert found is not None
        try:
            with live.command():
                answer = found.answer(here, words[1:], coloured=False)
        except TooManyCalls:
            return f"{words} asks without end"
        except NeptError as error:
            answer = text.escaped(text.paragraph(str(error)))  # as both doors do
        if MISTAKE in answer:
            return f"{words}: {answer.splitlines()[0]}"
        control = {sign for sign in answer if sign < " " and sign != "\n"}
        return f"{words}: control characters {control}" if control else ""

    def _left(self, stub: Misbehaving, live: LiveTarget) -> str:
        """The mode is as it was found, or owed; and a stub that behaves again gets it back."""
        if stub.mode == "0" or stub.gone:
            return ""
        if not (live.memory.owes or live.memory.found_on):
            return "the mode stays on, and nobody tells"
        stub.wrong = 0
        with live.command():
            pass
        return "" if stub.mode == "0" or live.memory.found_on else "the mode was not put back"
