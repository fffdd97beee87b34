# SPDX-License-Identifier: GPL-2.0-or-later
"""The packet layer of GDB's remote protocol: `$payload#checksum`, acknowledgements, Ctrl-C.

GDB manual, appendix "Remote Protocol", sections "Overview" and "Packet Acknowledgment".  In a
payload `}` precedes a byte that is sent with bit 5 flipped.  Run-length encoding, which only
answers may use, is never sent.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Union

LONGEST = 1 << 20  # bytes; whoever sends a longer packet does not speak this protocol
_CHECKSUM_LENGTH = 2
_FLIP = 0x20
_TO_ESCAPE = re.compile(rb"[#$}*]")
_ESCAPED = re.compile(rb"}(.)", re.DOTALL)


class Mark(enum.Enum):
    """What comes between packets, or in place of one."""

    ACK = 0x2B  # +
    NACK = 0x2D  # -
    INTERRUPT = 0x03  # Ctrl-C
    BROKEN = -1  # a packet with a wrong checksum, or without an end


Event = Union[bytes, Mark]  # the payload of a packet, or a mark

_MARKS = {mark.value: mark for mark in (Mark.ACK, Mark.NACK, Mark.INTERRUPT)}


def frame(payload: bytes) -> bytes:
    """A payload as a whole packet."""
    raw = _TO_ESCAPE.sub(lambda found: bytes((0x7D, found[0][0] ^ _FLIP)), payload)
    return b"$%b#%02x" % (raw, _checksum(raw))


def unescape(raw: bytes) -> bytes:
    """The payload of what was sent between `$` and `#`."""
    return _ESCAPED.sub(lambda found: bytes((found[1][0] ^ _FLIP,)), raw)


def _checksum(raw: bytes) -> int:
    return sum(raw) & 0xFF


class Decoder:
    """Makes packets and marks of a stream that comes in pieces."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are complete with this piece; what is neither is passed over."""
        self._pending += data
        while self._pending:
            if self._pending[:1] != b"$":
                mark = _MARKS.get(self._pending[0])
                self._pending = self._pending[1:]
                if mark is not None:
                    yield mark
                continue
            end = self._pending.find(b"#")
            if end < 0 and len(self._pending) > LONGEST:
                self._pending = b""
                yield Mark.BROKEN
            if end < 0 or len(self._pending) <= end + _CHECKSUM_LENGTH:
                return
            yield self._taken(end)

    def _taken(self, end: int) -> Event:
        """The packet whose `#` is at `end`, taken out of what is pending."""
        raw, digits = self._pending[1:end], self._pending[end + 1 : end + 1 + _CHECKSUM_LENGTH]
        self._pending = self._pending[end + 1 + _CHECKSUM_LENGTH :]
        if digits.lower() != b"%02x" % _checksum(raw):
            return Mark.BROKEN
        return unescape(raw)
