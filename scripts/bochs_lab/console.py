# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial console of L0, a file that Bochs writes: its end, and the facts on its lines."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

_FACT_PREFIX = "LAB "
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CRASH = re.compile(r"^\[[ .\d]+\] (Kernel panic - .*|BUG: unable to .*|BUG: kernel .*)")


@dataclass(frozen=True)
class Facts:
    """The JSON lines of a console in their order, and those that were to be JSON and are not."""

    objects: tuple[dict[str, Any], ...]
    unparsed: tuple[str, ...]


def clean(text: str) -> str:
    """Console text without carriage returns and escape sequences."""
    return _ESCAPE.sub("", text.replace("\r", ""))


def facts(text: str) -> Facts:
    """Every line that is a JSON object, with or without the prefix that L0's init uses."""
    objects: list[dict[str, Any]] = []
    unparsed: list[str] = []
    for line in clean(text).splitlines():
        body = line[len(_FACT_PREFIX) :] if line.startswith(_FACT_PREFIX) else line
        if not body.startswith("{"):
            continue
        try:
            objects.append(json.loads(body))
        except json.JSONDecodeError:
            unparsed.append(line)
    return Facts(tuple(objects), tuple(unparsed))


class Console:
    """The file of a running machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0  # bytes already given out by `news`
        self._partial = ""

    def text(self) -> str:
        """All of it."""
        if not self._path.exists():
            return ""
        return clean(self._path.read_text(encoding="latin-1"))

    def tail(self, count: int = 20) -> list[str]:
        """The last lines that are not blank."""
        return [line for line in self.text().splitlines() if line.strip()][-count:]

    def news(self) -> list[str]:
        """The whole lines written since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._seen)
            data = stream.read()
        self._seen += len(data)
        *lines, self._partial = (self._partial + data.decode("latin-1")).split("\n")
        return [clean(line) for line in lines]

    @property
    def partial(self) -> str:
        """The line that is being written."""
        return clean(self._partial)


def fact(line: str) -> Optional[dict[str, Any]]:
    """The object of one line, if it is one."""
    found = facts(line).objects
    return found[0] if found else None


def trouble(line: str) -> Optional[str]:
    """What a line says of a crash of the kernel, if it does."""
    found = _CRASH.match(line)
    return found[1] if found else None
