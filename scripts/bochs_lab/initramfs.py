# SPDX-License-Identifier: GPL-2.0-or-later
"""L0's userland, as a cpio archive of the format "newc", compressed.

The archive is written here and not by cpio(1): so the same content gives the same bytes, and
a device node needs no privilege.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .errors import LabError
from .guests import Guests
from .options import LabOptions
from .packages import UnpackedKernel

INIT = Path(__file__).with_name("l0-init")
MODULES = ("irqbypass", "kvm", "kvm-intel")
APPLETS = (
    *("sh", "echo", "cat", "ls", "mkdir", "mknod", "mount", "sleep", "stty", "sync"),
    *("awk", "dd", "dmesg", "grep", "insmod", "tail", "tr", "uname"),
)
CONSOLE = (5, 1)  # major and minor number of /dev/console
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """A file of the archive."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def initramfs(options: LabOptions, kernel: UnpackedKernel, guests: Guests) -> tuple[Path, str]:
    """The compressed archive in the cache, and its key."""
    key = cache.key_of(
        [kernel.digest, guests.key, _overlay_key(options), *map(cache.file_digest, _own_files())]
    )

    def build(folder: Path) -> None:
        archive = b"".join(pack(_entries(options, kernel, guests)))
        (folder / "initramfs.gz").write_bytes(gzip.compress(archive, 6, mtime=0))

    return cache.artifact("initramfs", key, build) / "initramfs.gz", key


def pack(entries: Iterator[Entry]) -> Iterator[bytes]:
    """The bytes of an archive of these entries."""
    for number, entry in enumerate(entries, start=1):
        yield _packed(number, entry)
    yield _packed(0, Entry(_TRAILER, 0))


def _packed(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = [number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.device, len(name), 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _own_files() -> list[Path]:
    return [INIT, Path(__file__), busybox()]


def busybox() -> Path:
    """The machine's own busybox, which is static."""
    found = shutil.which("busybox")
    if found is None:
        raise LabError("no busybox; install the package busybox-static")
    return Path(found)


def _overlay_files(options: LabOptions) -> list[Path]:
    if options.overlay is None:
        return []
    return sorted(path for path in options.overlay.rglob("*"))


def _overlay_key(options: LabOptions) -> str:
    files = [path for path in _overlay_files(options) if path.is_symlink() or path.is_file()]
    return cache.files_key(files, options.overlay) if options.overlay else ""


def _entries(options: LabOptions, kernel: UnpackedKernel, guests: Guests) -> Iterator[Entry]:
    for folder in ("bin", "dev", "lab", "modules"):
        yield Entry(folder, stat.S_IFDIR | 0o755)
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE)
    yield Entry("init", stat.S_IFREG | 0o755, INIT.read_bytes())
    yield Entry("bin/busybox", stat.S_IFREG | 0o755, busybox().read_bytes())
    for applet in APPLETS:
        yield Entry(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for name in MODULES:
        module = kernel.module(name)
        if module is not None:
            yield Entry(f"modules/{name}.ko", stat.S_IFREG | 0o644, module_content(module))
    for path in guests.files():
        yield Entry(f"lab/{path.name}", stat.S_IFREG | 0o755, path.read_bytes())
    for path in _overlay_files(options):
        yield _copied(path, str(path.relative_to(options.overlay or path)))


def module_content(module: Path) -> bytes:
    """A module as the kernel takes it: not compressed."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def _copied(path: Path, name: str) -> Entry:
    if path.is_symlink():
        return Entry(name, stat.S_IFLNK | 0o777, os.readlink(path).encode())
    if path.is_dir():
        return Entry(name, stat.S_IFDIR | 0o755)
    return Entry(name, stat.S_IFREG | stat.S_IMODE(path.stat().st_mode), path.read_bytes())
