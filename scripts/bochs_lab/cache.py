# SPDX-License-Identifier: GPL-2.0-or-later
"""What was built once is kept outside the tree, under a key made of what it was built from.

An artifact is a directory.  It is built beside its place and renamed into it, so that it is
either whole or absent, whenever the build was cut short.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Union

KEY_LENGTH = 16  # hexadecimal digits of a SHA-256 that name an artifact


def root() -> Path:
    """The folder of all artifacts of the lab."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gdb_nept" / "lab"


def key_of(parts: Iterable[Union[str, bytes]]) -> str:
    """A key over parts; each is preceded by its length, so that no two lists run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:KEY_LENGTH]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def files_key(paths: Iterable[Path], base: Path) -> str:
    """A key over files: name below `base`, executable or not, content (or link target)."""
    parts: list[str] = []
    for path in sorted(paths):
        content = os.readlink(path) if path.is_symlink() else file_digest(path)
        parts += [str(path.relative_to(base)), str(os.access(path, os.X_OK)), content]
    return key_of(parts)


@contextmanager
def creating(target: Path) -> Iterator[Path]:
    """A fresh directory that replaces `target` when the block ends well, and vanishes if not.

    To be used under the lock of the target: what an earlier process that was killed has left
    beside it is taken away.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        (work / "new").mkdir()
        yield work / "new"
        if target.exists():
            target.rename(work / "old")
        (work / "new").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def locked(kind: str, key: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Only one process at a time builds an artifact; the others wait and then find it."""
    folder = root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{kind}-{key}").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def artifact(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The artifact of this key; `build` fills a directory if there is none yet."""
    target = root() / kind / key
    if target.is_dir():
        return target
    with locked(kind, key):
        if not target.is_dir():
            with creating(target) as work:
                build(work)
    return target
