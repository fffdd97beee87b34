# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong on our side, each with its data.

What a guest did is never an error: it is a result.  An error means that we could not read or do
not understand something, and its text says what to do about it.
"""

from __future__ import annotations

from enum import Enum


class NeptError(Exception):
    """Base of all errors that a user sees as one clear message.

    `advice` says what the user can do about it; it is shown on a line of its own.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}" if self.advice else self.message


class UnreadKind(Enum):
    """Why memory could not be read; what a user does about it differs."""

    UNREADABLE = "unreadable"  # the debugger or the file system refuses
    FILTERED = "filtered"  # whoever wrote the dump left the page out
    NOT_IN_FILE = "not in the file"
    NO_RAM = "no RAM"
    CUT = "cut"  # the file ends before it
    CORRUPT = "corrupt"
    NOT_MAPPED = "not mapped in the host"  # the process that runs the guest has no page there
    SWAPPED = "swapped out in the host"


class MemoryUnreadable(NeptError):
    """`size` bytes at `address` could not be read; `why` says what stands in the way."""

    def __init__(
        self, address: int, size: int, why: str, kind: UnreadKind = UnreadKind.UNREADABLE
    ) -> None:
        super().__init__(f"cannot read {size} bytes at {address:#x}: {why}")
        self.address = address
        self.size = size
        self.why = why
        self.kind = kind


class NoMemory(MemoryUnreadable):
    """Nothing lies at `address`: a fact of the machine, which whoever runs on it meets as well."""


class Incomplete(NeptError):
    """An answer, or an error, that does not cover all: `spent` says what was looked at."""

    def __init__(self, error: NeptError, spent: str) -> None:
        told = (
            error.message if spent in error.message else f"{error.message} (not looked at: {spent})"
        )
        super().__init__(told, error.advice)


class TargetGone(NeptError):
    """The debugger or the dump does not answer any more."""


class NoKernel(NeptError):
    """The target's memory holds no Linux kernel that we can make sense of."""


class SymbolMissing(NeptError):
    """`origin` says where it was looked for."""

    def __init__(self, name: str, origin: str, advice: str = "") -> None:
        super().__init__(f"no symbol '{name}' in {origin}", advice)
        self.name = name


class TypeMissing(NeptError):
    """`origin` says where it was looked for."""

    def __init__(self, name: str, origin: str, advice: str = "") -> None:
        super().__init__(f"no type 'struct {name}' in {origin}", advice)
        self.name = name


class MemberMissing(NeptError):
    """A structure has no such member in this kernel: the caller tries the older name."""

    def __init__(self, struct: str, member: str) -> None:
        super().__init__(f"struct {struct} has no member '{member}' in this kernel")
        self.struct = struct
        self.member = member


class NoGuest(NeptError):
    """The kernel runs, but what was asked for is not there: no KVM, no VM, no nested state."""


class BadInput(NeptError):
    """An argument or a file that we cannot take as it is."""


class BadArgument(BadInput):
    """An argument that is wrong in itself: a number or a name that there is not."""
