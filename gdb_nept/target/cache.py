# SPDX-License-Identifier: GPL-2.0-or-later
"""What depends on the kernel's build alone, kept on disk for the next time.

`${XDG_CACHE_HOME:-~/.cache}/gdb_nept/kernel/<BUILD-ID>/<name>`.  A file that is torn, foreign or of
another version of ours counts as absent and is written anew; a directory that cannot be written is
no error, only slower.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

MAGIC = b"NEPTv1\0\0"
MOST_BUILDS = 32
HEADER = struct.Struct("<8s40sIQ")  # magic, key (cut to 40), CRC-32 and length of the payload


def default_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path(os.path.expanduser("~/.cache"))
    return root / "gdb_nept" / "kernel"


def known_builds(root: Path | None) -> list[str]:
    """The builds that the cache knows, last written first."""
    try:
        folders = [each for each in root.iterdir() if each.is_dir()] if root else []
        folders.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    except OSError:
        return []
    return [each.name for each in folders[:MOST_BUILDS]]


class BuildCache:
    """The cache of one build.  `root` None keeps nothing."""

    def __init__(self, root: Path | None, build_id: str) -> None:
        safe = re.fullmatch(r"[0-9A-Za-z._-]{8,80}", build_id) and not build_id.startswith(".")
        self.folder = root / build_id if root is not None and safe else None
        self._key = build_id.encode("ascii", "replace")[:40].ljust(40, b"\0")

    def load(self, name: str) -> bytes | None:
        """The payload stored under `name`, or None if there is none that is whole."""
        if self.folder is None:
            return None
        try:
            data = (self.folder / name).read_bytes()
        except OSError:
            return None
        if len(data) < HEADER.size:
            return None
        magic, key, checksum, length = HEADER.unpack_from(data)
        payload = data[HEADER.size :]
        whole = magic == MAGIC and key == self._key and length == len(payload)
        return payload if whole and zlib.crc32(payload) == checksum else None

    def store(self, name: str, payload: bytes) -> bool:
        """Store `payload` under `name`, whole or not at all; False if that cannot be."""
        if self.folder is None:
            return False
        header = HEADER.pack(MAGIC, self._key, zlib.crc32(payload), len(payload))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, scratch = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        except OSError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(header + payload)
            os.replace(scratch, self.folder / name)
        except OSError:
            Path(scratch).unlink(missing_ok=True)
            return False
        return True

    def blob(self, name: str, read: Callable[[], bytes]) -> bytes:
        """What is stored under `name`, else what `read` says, then stored."""
        found = self.load(name)
        if found is None:
            found = read()
            self.store(name, found)
        return found
