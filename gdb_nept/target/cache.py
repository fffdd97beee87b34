# SPDX-License-Identifier: GPL-2.0-or-later
"""What depends on the kernel's build alone, kept on disk for the next time.

`${XDG_CACHE_HOME:-~/.cache}/gdb_nept/kernel/<BUILD-ID>/<name>-<CRC>`.  A file that is torn, foreign
or of another version of ours counts as absent; a directory that cannot be written is no error, only
slower.

A build ID can be forged, and a dump be damaged: so one name may stand for several contents, and who
reads them takes the first that proves itself against the memory at hand.  None takes another's
place.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"NEPTv2\0\0"
MOST_BUILDS = 32
MOST_CONTENTS = 4  # of one name; the oldest go
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

    def contents(self, name: str) -> Iterator[bytes]:
        """The payloads stored under `name` that are whole, last written first."""
        for path in self._files(name):
            payload = self._payload(path)
            if payload is not None:
                yield payload

    def _files(self, name: str) -> list[Path]:
        try:
            found = list(self.folder.glob(f"{name}-" + 8 * "[0-9a-f]")) if self.folder else []
            return sorted(found, key=lambda each: each.stat().st_mtime_ns, reverse=True)
        except OSError:
            return []

    def _payload(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
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
        checksum = zlib.crc32(payload)
        header = HEADER.pack(MAGIC, self._key, checksum, len(payload))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, scratch = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        except OSError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(header + payload)
            os.replace(scratch, self.folder / f"{name}-{checksum:08x}")
            for old in self._files(name)[MOST_CONTENTS:]:
                old.unlink(missing_ok=True)
        except OSError:
            Path(scratch).unlink(missing_ok=True)
            return False
        return True
