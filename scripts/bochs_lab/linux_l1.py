# SPDX-License-Identifier: GPL-2.0-or-later
"""An overlay whose L1 was not written for this project: Debian's Linux, with KVM, in Debian's QEMU.

L0's init then runs QEMU, which boots the kernel as L1; L1's init loads KVM and runs a small L2, or,
where L0's kernel was given `lab.l2=linux`, the same kernel once more, parked when its init runs.
The parts: QEMU with its libraries and firmware as they are installed on this machine, a kernel of
the lab's, and tests/linux_l1 (L0's script, L1's and L2's init, the programs that give L1 an L2).
"""

from __future__ import annotations

import gzip
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from . import cache
from .errors import LabError
from .guests import SOURCES as _GUESTS
from .guests import compiler
from .initramfs import CONSOLE, Entry, busybox, module_content, pack
from .kernels import DEFAULT, KERNELS
from .options import LabOptions
from .packages import UnpackedKernel, kernel
from .progress import Progress

SOURCES = _GUESTS.with_name("linux_l1")
MODULES = ("irqbypass", "kvm", "kvm-intel")
APPLETS = (
    *("sh", "cat", "dmesg", "grep", "insmod", "mkdir", "mount", "reboot", "rmmod", "sed"),
    *("stty", "tail", "uname"),
)
L2_APPLETS = (
    "sh",
    "cat",
    "dd",
    "md5sum",
    "mkdir",
    "mount",
    "reboot",
    "sleep",
    "stty",
    "uname",
    "wc",
)
L2_IS_LINUX = "lab.l2=linux"  # a word for L0's kernel
L2_IS_LINUX_MEMORY = 1024  # MiB that L0 needs then
PROGRAMS = ("l2vmm", "l2linux")
# qboot, and what QEMU puts into the machine `microvm` when it is given a kernel.
FIRMWARE = ("qboot.rom", "kvmvapic.bin", "linuxboot_dma.bin")
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)  # a line of ldd


def overlay(line: str, progress: Progress) -> Path:
    """The overlay in the cache, whose L1 is the lab's kernel of that line (6.1)."""
    chosen = kernel(KERNELS[line], progress)
    qemu = _qemu_files()
    inputs = [*qemu.values(), *_sources(), busybox(), Path(__file__)]
    key = cache.key_of([chosen.digest, compiler(), *qemu, *map(cache.file_digest, inputs)])

    def build(folder: Path) -> None:
        progress.stage(f"building the overlay with Linux {chosen.release} as L1")
        for name, path in qemu.items():
            _copy(path, folder / name)
        _copy(SOURCES / "lab-run", folder / "lab-run")
        _copy(chosen.vmlinuz, folder / "l1" / "vmlinuz")
        with tempfile.TemporaryDirectory() as built:
            _output(["make", "-s", "-C", str(SOURCES), f"O={built}"])
            (folder / "l1" / "initramfs.gz").write_bytes(_packed(_l1(chosen, Path(built))))
            (folder / "l1" / "l2").mkdir()
            (folder / "l1" / "l2" / "initramfs.gz").write_bytes(_packed(_l2(Path(built))))

    return cache.artifact("overlays", key, build)


def with_linux_l2(options: LabOptions, progress: Progress) -> LabOptions:
    """The machine of these options with a Linux L1 and in it a Linux L2, both of the lab's usual
    kernel, and the memory that takes."""
    if options.overlay is not None:
        raise LabError("a Linux L2 comes with an overlay of its own")
    return replace(
        options,
        overlay=overlay(DEFAULT, progress),
        append=f"{options.append} {L2_IS_LINUX}".strip(),
        memory=max(options.memory, L2_IS_LINUX_MEMORY),
    )


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def _sources() -> list[Path]:
    return sorted(path for path in SOURCES.iterdir() if path.is_file())


def _qemu_files() -> dict[str, Path]:
    """Name in the overlay and file, of all that QEMU needs."""
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise LabError("no qemu-system-x86_64; install the package qemu-system-x86")
    files = {"qemu/qemu-system-x86_64": Path(found)}
    for library in _LIBRARY.findall(_output(["ldd", found])):
        files[library.lstrip("/")] = Path(library)
    folders = _output([found, "-L", "help"]).split()
    for name in FIRMWARE:
        files[f"qemu/{name}"] = _firmware(name, folders)
    return files


def _firmware(name: str, folders: list[str]) -> Path:
    for folder in folders:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise LabError(f"QEMU has no {name}; install the package qemu-system-data")


def _packed(entries: Iterator[Entry]) -> bytes:
    return gzip.compress(b"".join(pack(entries)), 6, mtime=0)


def _l1(chosen: UnpackedKernel, built: Path) -> Iterator[Entry]:
    yield from _userland(SOURCES / "l1-init", APPLETS)
    for name in PROGRAMS:
        yield _program(built / name)
    for name in MODULES:
        module = chosen.module(name)
        if module is None:
            raise LabError(f"Linux {chosen.release} has no module {name}")
        yield Entry(f"{name}.ko", stat.S_IFREG | 0o644, module_content(module))


def _l2(built: Path) -> Iterator[Entry]:
    yield from _userland(SOURCES / "l2-init", L2_APPLETS)
    yield _program(built / "park")


def _userland(init: Path, applets: tuple[str, ...]) -> Iterator[Entry]:
    for folder in ("bin", "dev"):
        yield Entry(folder, stat.S_IFDIR | 0o755)
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE)
    yield Entry("init", stat.S_IFREG | 0o755, init.read_bytes())
    yield Entry("bin/busybox", stat.S_IFREG | 0o755, busybox().read_bytes())
    for applet in applets:
        yield Entry(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")


def _program(path: Path) -> Entry:
    return Entry(path.name, stat.S_IFREG | 0o755, path.read_bytes())


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"no {command[0]}") from error
    if done.returncode != 0:
        raise LabError(f"{command[0]} failed:\n{(done.stdout + done.stderr).strip()}")
    return done.stdout
