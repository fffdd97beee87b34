# SPDX-License-Identifier: GPL-2.0-or-later
"""Replays that the command line starts: in the foreground, or left behind until `down`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from . import runtime
from .replay import Replay, Stub, ask_monitor, description, free_port

_STATE = "replay.json"


def stub(port: Optional[int], path: Optional[Path]) -> Stub:
    """The gdbstub asked for; a free port if nothing was."""
    return Stub(path=path.resolve()) if path is not None else Stub(port or free_port())


@contextmanager
def started(snapshot: Path, place: Stub, detach: bool) -> Iterator[Replay]:
    """A replay for the length of the block, or, detached, for longer."""
    if detach:
        folder = runtime.lasting("replay")
        replay = Replay(snapshot, folder, place)
        try:
            replay.start()
        except BaseException:
            runtime.remove(folder)
            raise
        (folder / _STATE).write_text(json.dumps(description(replay)))
        yield replay
        return
    with Replay(snapshot, stub=place) as replay:
        yield replay


def running() -> list[dict[str, Any]]:
    """The descriptions of the replays that were left behind and still answer."""
    return [json.loads(path.read_text()) for path in _states() if _answers(path)]


def end_all() -> int:
    """End the replays that were left behind; their number."""
    count = 0
    for path in _states():
        count += _answers(path, "quit")
        socket = json.loads(path.read_text()).get("socket")
        Stub(path=Path(socket) if socket else None).clean_up()
        runtime.remove(path.parent)
    return count


def _states() -> list[Path]:
    return sorted(runtime.folder().glob(f"*/{_STATE}"))


def _answers(state: Path, text: str = "info status") -> bool:
    """Whether the QEMU of a state file took a command; its process id alone proves nothing."""
    try:
        ask_monitor(Path(json.loads(state.read_text())["monitor"]), text)
    except (FileNotFoundError, ConnectionError):
        return False
    return True
