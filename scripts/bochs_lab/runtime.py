# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of what lives only as long as a process: sockets, consoles, state."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, TextIO

from .errors import LabError

_OWNER = "owner"  # the file that the process of a scratch folder keeps locked


def folder() -> Path:
    """The folder, made if need be; it belongs to this user alone."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        path = Path(base) / "gdb_nept-lab"
    else:
        path = Path(tempfile.gettempdir()) / f"gdb_nept-lab-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise LabError(f"{path} is not a directory of this user")
    return path


@contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """A folder for the life of a process; `sweep` takes away those whose process was killed."""
    with _guard():
        _sweep()
        path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=folder()))
        owner = (path / _OWNER).open("w")
        fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        with owner:
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def lasting(kind: str) -> Path:
    """A folder that outlives this process; to be ended by `remove`."""
    return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=folder()))


def remove(path: Path) -> None:
    """Take a folder away."""
    shutil.rmtree(path, ignore_errors=True)


def sweep() -> None:
    """Remove scratch folders that nobody holds any more."""
    with _guard():
        _sweep()


def _sweep() -> None:
    for owner in folder().glob(f"*/{_OWNER}"):
        with owner.open() as stream:
            if _lock_now(stream):
                shutil.rmtree(owner.parent, ignore_errors=True)


@contextmanager
def sole(name: str) -> Iterator[None]:
    """Be the one process that holds a name; refused if another does."""
    with (folder() / f"{name}.lock").open("a+") as stream:
        with _guard():
            free = _lock_now(stream)
        if not free:
            raise LabError(f"a {name} is up already; see: lab status, lab down")
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def holder(name: str) -> Optional[int]:
    """The process that holds a name, if one does."""
    path = folder() / f"{name}.lock"
    if not path.exists():
        return None
    with _guard(), path.open() as stream:
        return None if _lock_now(stream) else int(stream.read() or 0) or None


def socket_path() -> Path:
    """Where the daemon of the parked machine listens."""
    return folder() / "machine.sock"


def last_words() -> Path:
    """Where a machine that ended of itself has left why."""
    return folder() / "machine.ended"


@contextmanager
def _guard() -> Iterator[None]:
    """One process at a time makes locks or tries them: a trial takes the lock for a moment."""
    with (folder() / "guard.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _lock_now(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
