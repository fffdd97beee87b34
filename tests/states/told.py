# SPDX-License-Identifier: GPL-2.0-or-later
"""What states.elf and the VMM said: at each park point, and of L2's accesses behind it.

An access that L1 made behind a park point, with nothing changed in between, is what has to be
predicted from a snapshot at that point, which cannot know it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdb_nept.address import L2Virt
from gdb_nept.predict.access import Op
from gdb_nept.predict.linear import LinearAccess, LinearPrediction
from gdb_nept.predict.outcome import Outcome

EXCEPTION, APIC_ACCESS, EPT_VIOLATION, EPT_MISCONFIGURATION = 0, 44, 48, 49
EPT_EXITS = (EPT_VIOLATION, EPT_MISCONFIGURATION)
CHANGED = "changed-"  # L1 changes its tables for such an access, and puts them back
FEATURES = 0x300  # accessed and dirty flags of an EPT entry
OPS = {"read": Op.READ, "write": Op.WRITE, "fetch": Op.FETCH}
OUTCOMES = {
    EPT_VIOLATION: Outcome.VIOLATION,
    EPT_MISCONFIGURATION: Outcome.MISCONFIG,
    EXCEPTION: Outcome.PAGE_FAULT,
    APIC_ACCESS: Outcome.APIC_ACCESS,
}
Line = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """One access of L2's and what came of it; `value` is what it read."""

    line: Line
    size: int

    @property
    def linear(self) -> int:
        return self.number("linear")

    @property
    def access(self) -> LinearAccess:
        op = OPS[self.line["op"]]
        return LinearAccess(L2Virt(self.linear), 1 if op is Op.FETCH else self.size, op)

    @property
    def name(self) -> str:
        return f"{self.line['name']}-{self.line['op']}"

    @property
    def translated(self) -> bool:
        return bool(self.line["outcome"] == "translated")

    @property
    def reason(self) -> int | None:
        return None if self.translated else self.number("reason")

    @property
    def value(self) -> int | None:
        return self.number("value") if self.translated and self.access.op is Op.READ else None

    def number(self, name: str) -> int:
        return int(self.line[name], 16)

    def differences(self, found: LinearPrediction) -> list[str]:
        """What a prediction has otherwise."""
        reason = self.reason
        outcome = Outcome.TRANSLATED if reason is None else OUTCOMES[reason]
        if found.outcome is not outcome:
            return [f"{found.outcome.value}, not {outcome.value}"]
        if found.fault is not None:
            code = self.number("error_code")
            told = (code, self.number("qualification"))
            return [] if (found.fault.code.value, found.linear) == told else [f"fault {told}"]
        prediction = found.prediction
        assert prediction is not None
        if self.translated:
            return []
        bits = (prediction.qualification ^ self.number("qualification")) & prediction.mask
        pairs = ((prediction.gpa, "gpa"), (prediction.gla, "gla"))
        wrong = [name for one, name in pairs if one is not None and one != self.number(name)]
        return wrong + ([f"qualification bits {bits:#x}"] if bits else [])


@dataclass(frozen=True)
class Told:
    """All lines of a run, in order."""

    lines: tuple[Line, ...]

    @classmethod
    def by(cls, snapshot: Path) -> Told:
        return cls(tuple(json.loads((snapshot / "facts.json").read_text())))

    def facts(self, name: str) -> list[Any]:
        return [line[name] for line in self.lines if name in line]

    def one(self, name: str, value: str) -> Line:
        """The line in which `name` is `value`."""
        return next(line for line in self.lines if line.get(name) == value)

    def probes(self, state: str) -> list[Probe]:
        """The accesses behind the park point, with the tables as they are at it."""
        return [
            Probe(line, _size(line))
            for line in self.lines
            if line.get("probe") == state and "op" in line and not line["name"].startswith(CHANGED)
        ]

    def exits(self) -> Iterator[Line]:
        """Those because of EPT, of all the run, in order."""
        for line in self.lines:
            if "reason" in line and int(line["reason"], 16) in EPT_EXITS:
                yield line

    def vmcs(self, state: str) -> dict[int, int]:
        """L1's VMREADs of all fields before it parked, or let L2 park."""
        read = self.one("at", state)["vmcs"]
        return {int(encoding, 16): int(text, 16) for encoding, text in read.items()}

    def entries(self, state: str) -> list[Line]:
        """The entries of EPT12 at a park point."""
        start = next(n for n, line in enumerate(self.lines) if line.get("state") == state)
        found: list[Line] = []
        for line in self.lines[start + 1 :]:
            if "entry_at_park" not in line:
                break
            found.append(line["entry_at_park"])
        return found

    def slots(self, state: str) -> list[Line]:
        """The memslots of the VM that nests, as the VMM had set them when it parked."""
        end = next(n for n, line in enumerate(self.lines) if line.get("park") == state)
        made = [line for line in self.lines[:end] if line.get("vm") == "nested"]
        slots: list[Line] = made[-1]["slots"]
        return slots


def _size(line: Line) -> int:
    return 4 if line["name"].endswith("-long") or "-pae" in line["name"] else 8
