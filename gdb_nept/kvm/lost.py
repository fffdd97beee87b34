# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel that lacks a member loses: what hangs on that member, and no more."""

from __future__ import annotations

from typing import Callable, TypeVar

from gdb_nept.errors import MemberMissing

Thing = TypeVar("Thing")


class Lost:
    """Reads, and keeps the messages of what this kernel has no member for."""

    def __init__(self) -> None:
        self._messages: dict[str, None] = {}

    @property
    def messages(self) -> tuple[str, ...]:
        return tuple(self._messages)

    def or_else(self, otherwise: Thing, read: Callable[[], Thing]) -> Thing:
        """What `read` gives, or `otherwise` where a member is missing.  Raises what else `read`
        does."""
        try:
            return read()
        except MemberMissing as error:
            self._messages[error.message] = None
            return otherwise
