# SPDX-License-Identifier: GPL-2.0-or-later
"""A stub made by hand: two MiB of memory, its modes, a monitor, virtual addresses."""

from __future__ import annotations

from gdb_nept.errors import MemoryUnreadable, TargetGone

SIZE = 2 << 20
BASE = 0xFFFF888000000000  # where its direct map lies
MTREE = """\
FlatView #0
 AS "memory", root: system
 Root memory region: system
  0000000000000000-00000000000fffff (prio 0, ram): ram0
  0000000000100000-00000000001fffff (prio 0, ram): ram0 @0000000000100000
"""


def gpa2hva(place: int, host: int) -> dict[str, str]:
    """The monitor's answer about RAM at `place`."""
    text = f"Host virtual address for {place:#x} (ram0) is {host:#x}\n"
    return {f"gpa2hva {place:#x}": text}


class Machine:
    """`answers` are the monitor's.  `mode` None: there is no physical memory mode (as in kgdb)."""

    def __init__(self, mode: str | None = "0", answers: dict[str, str] | None = None) -> None:
        self.memory = bytearray(bytes(range(1, 252)) * (SIZE // 251 + 1))[:SIZE]
        self.mode = mode
        self.answers = {"info mtree -f": MTREE} if answers is None else answers
        self.sent: list[str] = []
        self.gone = False

    def packet(self, text: str) -> str:
        self._take(text)
        if self.mode is None or "PhyMemMode" not in text:
            return ""
        if text.startswith("q"):
            return self.mode
        self.mode = text[-1]
        return "OK"

    def monitor(self, text: str) -> str:
        self._take(f"monitor {text}")
        return self.answers.get(text, f"unknown command: '{text}'\n")

    def read(self, address: int, size: int) -> bytes:
        self._take(f"m{address:x},{size:x}")
        start = address if self.mode == "1" else address - BASE
        if not 0 <= start <= SIZE - size:
            raise MemoryUnreadable(address, size, "Cannot access memory")
        return bytes(self.memory[start : start + size])

    def forget(self) -> None:
        pass

    def _take(self, text: str) -> None:
        self.sent.append(text)
        if self.gone:
            raise TargetGone("gone")

    @property
    def modes(self) -> list[str]:
        """The packets that switched the mode."""
        return [text for text in self.sent if text.startswith("Q")]
