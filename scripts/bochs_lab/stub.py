# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets of GDB's remote protocol over a live machine, answered as QEMU 7.2 answers them.

GDB manual, appendix "Remote Protocol"; QEMU gdbstub/gdbstub.c and docs/system/gdb.rst for the
`qemu.` packets.  Two answers differ: packets may be longer here, and NoAckMode is known.
"""

from __future__ import annotations

import re
from typing import Callable, Optional, Union

from . import monitor, target_xml
from .errors import LabError
from .live import Live

PACKET_SIZE = 0x4000  # bytes; gdb takes no more
_TEXT_PIECE = 1024  # characters of a monitor's answer in one packet
_INTERRUPTED, _TRAPPED, _KILLED = 2, 5, 9  # GDB's numbers of SIGINT, SIGTRAP, SIGKILL
_BAD_REGISTER = _BAD_ADDRESS = b"E14"
_WRONG = b"E22"
_REFUSED = b"E01"
_UNKNOWN = b""
_OK = b"OK"
_KINDS = {"0": "software", "1": "hardware"}  # of breakpoints

Answer = Optional[bytes]  # None: nothing is said until the machine stands


class Killed(LabError):
    """gdb's `kill`: the machine is to end, as QEMU does."""


class GdbStub:
    """One debugger's connection at a time; the memory mode outlasts it, as in QEMU."""

    def __init__(self, live: Live, say: Callable[[bytes], None]) -> None:
        """`say` sends a packet on its own, before the answer."""
        self._live = live
        self._say = say
        self._physical = False
        self._multiprocess = False
        self.acknowledging = True

    def connected(self) -> None:
        """A new debugger, which finds the machine standing."""
        self._multiprocess = False
        self.acknowledging = True
        self._live.halt()

    def stop_reply(self) -> bytes:
        """Why the machine stands."""
        signal = _INTERRUPTED if self._live.interrupted else _TRAPPED
        return b"T%02xthread:%s;" % (signal, self._thread())

    def died(self, reason: str) -> list[bytes]:
        """What is said when Bochs has ended: the reason, and if one waits, that all is over."""
        told = [_text(f"lab: {reason}\n"), b"X%02x" % _KILLED]
        return told if self._live.running else []

    def answer(self, packet: bytes) -> Answer:
        """The answer to a packet; '' if it is unknown."""
        text = packet.decode("latin-1")
        for pattern, act in _COMMANDS:
            found = pattern.fullmatch(text)
            if found:
                return act if isinstance(act, bytes) else act(self, *found.groups())
        return _UNKNOWN

    def _thread(self) -> bytes:
        return b"p01.01" if self._multiprocess else b"01"

    # -- what is there

    def _why(self) -> Answer:
        return self.stop_reply()

    def _supported(self, features: str) -> Answer:
        self._multiprocess = "multiprocess+" in features
        words = f"PacketSize={PACKET_SIZE:x};qXfer:features:read+;QStartNoAckMode+"
        return f"{words};vContSupported+;multiprocess+".encode()

    def _no_acknowledgements(self) -> Answer:
        self.acknowledging = False
        return _OK

    def _features(self, name: str, start: str, length: str) -> Answer:
        data = target_xml.document(name)
        offset = int(start, 16)
        if data is None or offset > len(data):
            return b"E00"
        end = offset + min(int(length, 16), (PACKET_SIZE - 5) // 2)  # all of it may be escaped
        return (b"m" if end < len(data) else b"l") + data[offset:end]

    def _select(self, thread: str) -> Answer:
        return _OK if _is_ours(thread) else _WRONG

    def _current(self) -> Answer:
        return b"QC" + self._thread()

    def _first_thread(self) -> Answer:
        return b"m" + self._thread()

    def _thread_words(self, thread: str) -> Answer:
        return b"CPU#0 [running]".hex().encode() if _is_ours(thread) else _WRONG

    # -- registers and memory

    def _registers(self) -> Answer:
        return target_xml.encode_all(self._live.cpu.value).hex().encode()

    def _register(self, number: str) -> Answer:
        known = target_xml.registers()
        index = int(number, 16)
        if index >= len(known):
            return _BAD_REGISTER
        value = self._live.cpu.value(known[index].name)
        return known[index].encode(value).hex().encode()

    def _set_register(self, number: str, value: str) -> Answer:
        """General registers and RIP are what Bochs' debugger can set."""
        index = int(number, 16)
        register = target_xml.registers()[index] if index <= _RIP else None
        if register is None:
            return _REFUSED
        wanted = int.from_bytes(bytes.fromhex(value)[: register.size], "little")
        return _OK if self._live.cpu.set(register.name, wanted) else _REFUSED

    def _read(self, address: str, length: str) -> Answer:
        start, count = int(address, 16), int(length, 16)
        if count > PACKET_SIZE // 2:
            return _WRONG
        read = self._live.read_physical if self._physical else self._live.read_linear
        data = read(start, count)
        return _BAD_ADDRESS if data is None else data.hex().encode()

    def _write(self, address: str, length: str, digits: str) -> Answer:
        start, data = int(address, 16), bytes.fromhex(digits)
        if len(data) != int(length, 16):
            return _WRONG
        if self._physical:
            self._live.write_physical(start, data)
            return _OK
        return _OK if self._live.write_linear(start, data) else _BAD_ADDRESS

    def _memory_mode(self) -> Answer:
        return b"%d" % self._physical

    def _set_memory_mode(self, mode: str) -> Answer:
        self._physical = int(mode) != 0
        return _OK

    def _set_step_mode(self, mode: str) -> Answer:
        return _OK if int(mode, 16) == 1 else _WRONG

    # -- running

    def _insert(self, kind: str, address: str) -> Answer:
        if kind not in _KINDS:
            return _UNKNOWN
        return _OK if self._live.insert(_KINDS[kind], int(address, 16)) else _WRONG

    def _remove(self, kind: str, address: str) -> Answer:
        if kind not in _KINDS:
            return _UNKNOWN
        return _OK if self._live.remove(_KINDS[kind], int(address, 16)) else _WRONG

    def _vcont(self, actions: str) -> Answer:
        """The first action for our only thread counts."""
        for action in actions.split(";"):
            word, _, thread = action.partition(":")
            if thread and not _is_ours(thread):
                continue
            if word[:1] in ("c", "C", "s", "S"):
                self._live.resume(step=word[0] in "sS")
                return None
            return _UNKNOWN
        return _WRONG

    def _resume(self, letter: str) -> Answer:
        self._live.resume(step=letter in "sS")
        return None

    def _detach(self) -> Answer:
        self._live.remove_all()
        self._live.resume()
        return _OK

    def _kill(self, packet: str) -> Answer:
        if packet != "k":
            self._say(_OK)  # k has no answer
        raise Killed("ended by gdb's kill")

    def _monitor(self, digits: str) -> Answer:
        try:
            text = bytes.fromhex(digits).decode("utf-8", "replace")
        except ValueError:
            return _OK  # as QEMU does
        output = monitor.answer(self._live, text)
        for start in range(0, len(output), _TEXT_PIECE):
            self._say(_text(output[start : start + _TEXT_PIECE]))
        return _OK


_RIP = 16  # its number


def _text(output: str) -> bytes:
    """A packet of text for the debugger's user."""
    return b"O" + output.encode("latin-1", "replace").hex().encode()


def _is_ours(thread: str) -> bool:
    """Whether a thread-id means our only one: 1, or 0 for any, or -1 for all."""
    process, dot, number = thread[1:].partition(".") if thread[:1] == "p" else ("1", ".", thread)
    return all(word in ("-1", "0", "1", "01", "00") for word in (process, number if dot else "0"))


_Act = Union[Callable[..., Answer], bytes]
_HEX = "([0-9a-fA-F]+)"
_LENGTH = "[0-9a-fA-F]+"
_COMMANDS: tuple[tuple[re.Pattern[str], _Act], ...] = tuple(
    (re.compile(pattern, re.DOTALL), act)
    for pattern, act in (
        (r"\?|vAttach;.*", GdbStub._why),
        (r"qSupported(.*)", GdbStub._supported),
        (r"QStartNoAckMode", GdbStub._no_acknowledgements),
        (rf"qXfer:features:read:([^:]*):{_HEX},{_HEX}", GdbStub._features),
        (r"H[gc](.+)", GdbStub._select),
        (r"T(.+)", GdbStub._select),
        (r"qC", GdbStub._current),
        (r"qfThreadInfo", GdbStub._first_thread),
        (r"qsThreadInfo", b"l"),
        (r"qThreadExtraInfo,(.+)", GdbStub._thread_words),
        (r"qAttached(?::.*)?", b"1"),
        (r"!", _OK),
        (r"g", GdbStub._registers),
        (rf"p{_HEX}", GdbStub._register),
        (rf"P{_HEX}=((?:[0-9a-fA-F]{{2}})+)", GdbStub._set_register),
        (r"G.*", _REFUSED),
        (rf"m{_HEX},{_HEX}", GdbStub._read),
        (rf"M{_HEX},{_HEX}:((?:[0-9a-fA-F]{{2}})*)", GdbStub._write),
        (r"qqemu\.PhyMemMode", GdbStub._memory_mode),
        (r"Qqemu\.PhyMemMode:(\d+)", GdbStub._set_memory_mode),
        (r"qqemu\.Supported", b"sstepbits;sstep;PhyMemMode"),
        (r"qqemu\.sstepbits", b"ENABLE=1"),  # interrupts and timers go on in a step
        (r"qqemu\.sstep", b"0x1"),
        (rf"Qqemu\.sstep=(?:0x)?{_HEX}", GdbStub._set_step_mode),
        (rf"Z(\d),{_HEX},{_LENGTH}", GdbStub._insert),
        (rf"z(\d),{_HEX},{_LENGTH}", GdbStub._remove),
        (r"[Zz].*|m[0-9a-fA-F]*|M", _WRONG),
        (r"vCont\?", b"vCont;c;C;s;S"),
        (r"vCont;(.+)", GdbStub._vcont),
        (r"([csCS]).*", GdbStub._resume),
        (r"D(?:;.*)?", GdbStub._detach),
        (r"(k|vKill;.*)", GdbStub._kill),
        (r"qRcmd,(.*)", GdbStub._monitor),
    )
)
