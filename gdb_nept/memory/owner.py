# SPDX-License-Identifier: GPL-2.0-or-later
"""Which process of this computer is at the other end of the debugger's connection.

The debugger's own socket tells both addresses; /proc/net/tcp{,6} has the other end's socket with
its inode (proc_net_tcp(5)), and /proc/PID/fd whose that is.  A unix socket tells the process itself
(unix(7), SO_PEERCRED).  The emulator may also be a child of that process: the lab's daemon answers
for its Bochs, and socat for the QEMU that it started.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from gdb_nept.memory.transport import NotOffered

PROC = Path("/proc")
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_ESTABLISHED = "01"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

Address = tuple[Union[ipaddress.IPv4Address, ipaddress.IPv6Address], int]


@dataclass(frozen=True)
class Process:
    """`started`, in clock ticks since boot, tells it from others that get its number."""

    pid: int
    name: str
    parent: int
    started: int
    uid: int | None = None

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"

    def alive(self) -> bool:
        now = process(self.pid)
        return now is not None and now.started == self.started


def process(pid: int) -> Process | None:
    """The process of that number; None if there is none, or it has ended (proc_pid_stat(5))."""
    try:
        folder = PROC / str(pid)
        head, _, tail = (folder / "stat").read_text("utf-8", "replace").rpartition(")")
        uid = folder.stat().st_uid
    except OSError:
        return None
    fields = tail.split()  # from field 3 on
    if fields[0] in "ZX":
        return None
    return Process(pid, head.partition("(")[2], int(fields[1]), int(fields[19]), uid)


def owners(address: str) -> tuple[Process, ...]:
    """Who is at the other end of the connection to `address`, and then the processes that these
    have started.  Raises NotOffered, with the reason why nobody is found."""
    if address.startswith("|"):
        roots = {os.getpid()}
    elif address.startswith("/dev/"):
        raise NotOffered(f"the stub is behind the line {address}")
    else:
        roots = _peers(address)
    found = [one for one in _family(roots) if one.pid != os.getpid()]
    if not found:
        raise NotOffered("the process that the stub belongs to is not visible here")
    return tuple(found)


def _family(roots: set[int]) -> Iterator[Process]:
    """These processes and all that descend from them, generation by generation."""
    everybody = [found for found in map(process, _pids()) if found]
    generation = [one for one in everybody if one.pid in roots]
    while generation:
        yield from generation
        parents = {one.pid for one in generation}
        generation = [one for one in everybody if one.parent in parents]


def _pids() -> list[int]:
    try:
        return sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    except OSError:
        return []


def _peers(address: str) -> set[int]:
    """The processes that hold the other end of our connection to `address` ('' for any)."""
    with ExitStack() as scope:
        ours = [one for one in _own_connections(scope) if _leads_to(one, address)]
        if not ours:
            raise NotOffered(f"gdb's own connection to {address} is not found in /proc/self/fd")
        return {pid for one in ours for pid in _other_end(one)}


def _own_connections(scope: ExitStack) -> Iterator[socket.socket]:
    """Our process's connected sockets, as duplicates that live as long as `scope`.  Raises
    NotOffered where this computer has no /proc, as in a container that does not mount it."""
    try:
        entries = os.listdir(PROC / "self" / "fd")
    except OSError as error:
        why = f"{PROC} cannot be read here ({error.strerror})"
        raise NotOffered(why, "mount -t proc proc /proc lets it be found.") from None
    for entry in entries:
        with suppress(OSError):  # of the listing itself, not a socket, or not connected
            if os.readlink(PROC / "self" / "fd" / entry).startswith("socket:"):
                one = scope.enter_context(socket.socket(fileno=os.dup(int(entry))))
                one.getpeername()
                yield one


def _leads_to(connection: socket.socket, address: str) -> bool:
    peer = connection.getpeername()
    if connection.family == socket.AF_UNIX:
        return address in ("", peer)
    port = address.rpartition(":")[2]
    return connection.family in _INTERNET and port in ("", str(peer[1]))


def _other_end(connection: socket.socket) -> set[int]:
    if connection.family == socket.AF_UNIX:
        size = _CREDENTIALS.size
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return {int(_CREDENTIALS.unpack(data)[0])}
    here, there = _plain(connection.getsockname()), _plain(connection.getpeername())
    for row in _rows():
        if (row.here, row.there) == (there, here):
            return _holders(row)
    where = "in another network namespace" if there[0].is_loopback else "not on this machine"
    raise NotOffered(f"the other end of the connection, {there[0]} port {there[1]}, is {where}")


def _plain(name: tuple[str, int]) -> Address:
    """A socket's address, IPv4 as such also where IPv6 carries it."""
    found = ipaddress.ip_address(name[0].partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found, name[1]


@dataclass(frozen=True)
class _Row:
    """A connection in /proc/net/tcp{,6}."""

    here: Address
    there: Address
    uid: int
    inode: str


def _rows() -> Iterator[_Row]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _ESTABLISHED:
                    yield _Row(_decoded(words[1]), _decoded(words[2]), int(words[7]), words[9])


def _decoded(text: str) -> Address:
    """'0100007F:04D2', the address in words of 32 bits in the processor's order."""
    digits, _, port = text.partition(":")
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return _plain((str(ipaddress.ip_address(packed)), int(port, 16)))


def _holders(row: _Row) -> set[int]:
    """The processes that have this socket open.  Raises NotOffered where we may not see any."""
    wanted = f"socket:[{row.inode}]"
    found = {pid for pid in _pids() if _has_open(pid, wanted)}
    if found:
        return found
    raise NotOffered(
        f"gdb may not look into the stub's process: it belongs to user {row.uid}, has more rights, "
        "or runs in another PID namespace",
        "Run gdb as that user, or as root.",
    )


def _has_open(pid: int, wanted: str) -> bool:
    folder = PROC / str(pid) / "fd"
    try:
        return any(os.readlink(folder / entry) == wanted for entry in os.listdir(folder))
    except OSError:  # ended, or another user's
        return False
