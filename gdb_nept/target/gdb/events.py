# SPDX-License-Identifier: GPL-2.0-or-later
"""What gdb tells of its target unasked: that it ran, that it stopped, that it is another."""

from __future__ import annotations

from typing import Any, Callable

import gdb

from gdb_nept.target.live import LiveTarget


class GdbEvents:
    """Tells a target when it ran, or is another one; `runs` and `stopped` are called then, too.

    Ctrl-C breaks off what is written in Python, and gdb goes on all the same: that the machine runs
    is noted by `append` of a deque, which is not."""

    def __init__(
        self,
        target: LiveTarget,
        runs: Callable[[object], None],
        stopped: Callable[[], None],
        exiting: Callable[[], None] | None = None,
    ) -> None:
        events: Any = gdb.events
        self._listeners: list[tuple[Any, Callable[[object], None]]] = [
            (events.cont, target.changes.append),
            (events.cont, runs),
            (events.memory_changed, target.changes.append),
            (events.stop, lambda event: stopped()),
            (events.exited, lambda event: target.forget()),
            (events.new_objfile, lambda event: target.forget_kernel()),
            (events.clear_objfiles, lambda event: target.forget_kernel()),
        ]
        if exiting is not None and hasattr(events, "gdb_exiting"):  # gdb 12
            self._listeners.append((events.gdb_exiting, lambda event: exiting()))
        self.listen()

    def listen(self) -> None:
        for registry, listener in self._listeners:
            registry.connect(listener)

    def close(self) -> None:
        for registry, listener in self._listeners:
            registry.disconnect(listener)
