# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel with kgdb, built from Debian's source package: Debian's own have kgdb off.

It is kept by the version of its source and by its configuration, and used from then on: a newer
source is built only when that is asked for (`refresh`), as newer packages are.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Optional

from . import builds, cache, packages
from .errors import LabError
from .kernels import KERNELS, WITH_KGDB
from .packages import UnpackedKernel
from .progress import Progress

CONFIG = Path(__file__).with_name("kgdb.config")
TOOLS = ("bc", "bison", "flex", "gcc", "make", "xz")
HEADER = Path("/usr/include/libelf.h")  # for the kernel's own objtool
_KIND = "kgdb"
_RECORD = "kernel.json"
_WORK = ".build-"
_BUILT_BY = {  # the same source gives the same kernel
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "lab",
    "KBUILD_BUILD_HOST": "lab",
}


def vmlinux(kernel: UnpackedKernel) -> Path:
    """The kernel's image as it was linked, with symbols and DWARF: what gdb loads."""
    return kernel.folder / "vmlinux"


def kernel(progress: Progress, refresh: bool = False) -> UnpackedKernel:
    """The kernel from the cache, or built into it, which takes 6 to 15 minutes."""
    found = None if refresh else _newest()
    if found is None:
        with cache.locked(_KIND, WITH_KGDB, lambda: progress.stage("another process builds it")):
            found = (None if refresh else _newest()) or _build(progress)
    return found


def _config_key() -> str:
    return cache.key_of([CONFIG.read_bytes()])


def _newest() -> Optional[UnpackedKernel]:
    """The kernel of this configuration with the newest source."""
    found = list((cache.root() / _KIND).glob(f"[!.]*-{_config_key()}"))
    return _opened(max(found, key=_numbers)) if found else None


def _numbers(folder: Path) -> tuple[int, ...]:
    version = folder.name.rpartition("-")[0]
    return tuple(int(digits) for digits in re.findall(r"\d+", version))


def _opened(folder: Path) -> UnpackedKernel:
    record = json.loads((folder / _RECORD).read_text())
    return UnpackedKernel(folder, record["release"], record["digest"])


def _build(progress: Progress) -> UnpackedKernel:
    """Download the source, and build it unless this version of it was built before."""
    _check_tools()
    top = cache.root() / _KIND
    top.mkdir(parents=True, exist_ok=True)
    for stale in top.glob(f"{_WORK}*"):  # of a build that was killed
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=top) as name:
        package = packages.source(KERNELS[WITH_KGDB], Path(name), progress)
        version = packages.run(["dpkg-deb", "--field", str(package), "Version"]).strip()
        target = top / f"{version}-{_config_key()}"
        if not target.is_dir():
            with cache.creating(target) as folder:
                _build_into(folder, package, version, progress)
    return _opened(target)


def _check_tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not HEADER.is_file():
        missing.append("libelf-dev")
    if missing:
        raise LabError(f"to build a kernel, install: {' '.join(missing)}")


def _build_into(folder: Path, package: Path, version: str, progress: Progress) -> None:
    progress.stage(f"unpacking {package.name}")
    tree = _unpacked(package)
    _configure(tree)
    progress.stage(f"building Linux {version} with kgdb: 6 to 15 minutes")
    command = ["make", "ARCH=x86_64", builds.JOBS, "bzImage"]
    builds.run(command, tree, folder / "build.log", progress, _BUILT_BY)
    (folder / "root").mkdir()
    shutil.copy(tree / "arch/x86/boot/bzImage", folder / "root" / "vmlinuz")
    shutil.copy(tree / "vmlinux", folder)
    shutil.copy(tree / ".config", folder / "config")
    release = (tree / "include/config/kernel.release").read_text().strip()
    digest = cache.key_of([version, _config_key(), cache.file_digest(folder / "vmlinux")])
    record = {"release": release, "source": version, "digest": digest}
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _unpacked(package: Path) -> Path:
    """The source tree, beside its package."""
    packages.run(["dpkg", "-x", str(package), str(package.parent / "package")])
    (archive,) = (package.parent / "package").rglob("linux-source-*.tar.xz")
    tree = package.parent / "source"
    tree.mkdir()
    packages.run(["tar", "-xf", str(archive), "-C", str(tree), "--strip-components=1"])
    return tree


def _configure(tree: Path) -> None:
    """Everything off but what CONFIG names, and what that depends on."""
    preset = f"KCONFIG_ALLCONFIG={CONFIG}"
    packages.run(["make", "-s", "-C", str(tree), "ARCH=x86_64", preset, "allnoconfig"])
    taken = (tree / ".config").read_text().splitlines()
    wanted = [line for line in CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]
    refused = [line for line in wanted if line not in taken]
    if refused:
        raise LabError(f"this kernel's configuration does not take {', '.join(refused)}")
