# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching a kernel from Debian's archive and unpacking it; nothing is installed.

The machine's own apt is asked first.  If it knows no package of that kernel, apt is run with
state folders of its own and a sources.list for the kernel's suite, whose addresses are those
of the mirror that the machine is configured with.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from . import cache
from .errors import LabError
from .kernels import KERNELS, Kernel
from .progress import Progress

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_RECORD = "kernel.json"


@dataclass(frozen=True)
class UnpackedKernel:
    """A kernel in the cache: its image, its modules, its identity."""

    folder: Path
    release: str
    digest: str  # over the packages it came from

    @property
    def vmlinuz(self) -> Path:
        """The kernel's image, in /boot or, in newer packages, beside its modules."""
        found = sorted((self.folder / "root").rglob("vmlinuz*"))
        if not found:
            raise LabError(f"the packages of {self.release} hold no vmlinuz")
        return found[0]

    def module(self, name: str) -> Optional[Path]:
        """The file of a module, compressed or not; None if the kernel has it built in."""
        found = sorted((self.folder / "root").rglob(f"{name}.ko*"))
        return found[0] if found else None


def kernel(wanted: Kernel, progress: Progress, refresh: bool = False) -> UnpackedKernel:
    """The kernel from the cache, or fetched into it."""
    folder = cache.root() / "kernels" / wanted.line
    if refresh or _is_stale(folder, wanted):
        with cache.locked("kernel", wanted.line):
            if refresh or _is_stale(folder, wanted):
                _fetch_into(folder, wanted, progress)
    record = json.loads((folder / _RECORD).read_text())
    return UnpackedKernel(folder, record["release"], record["digest"])


def _is_stale(folder: Path, wanted: Kernel) -> bool:
    """Whether there is none yet, or one that was fetched when another one was preferred."""
    if not (folder / _RECORD).is_file():
        return True
    record = json.loads((folder / _RECORD).read_text())
    return bool(record.get("preferred", record["release"]) != wanted.preferred != "")


def debug_files(
    release: str, folder: Path, progress: Progress, vmlinux: bool = False
) -> tuple[list[Path], str]:
    """kvm.ko and kvm-intel.ko with their DWARF, out of the package of debug symbols of a Debian
    kernel, and with `vmlinux` that as well, in the folder; and that package's name and version.
    Raises LabError."""
    name = f"linux-image-{release}-dbg"
    for apt in _apts(_line_of(release), progress):
        progress.stage(f"downloading {name}")
        command = ["apt-get", *apt, "download", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    else:
        raise LabError(f"apt offers no {name}: {_last_line(done.stderr)}")
    package = next(folder.glob("*.deb"))
    progress.stage(f"unpacking {package.name}")
    wanted = ["*/kvm/kvm.ko", "*/kvm/kvm-intel.ko", *["*/boot/vmlinux-*"] * vmlinux]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
        command = ["tar", "-C", str(folder), "-x", "--wildcards", *wanted]
        done = subprocess.run(
            command, stdin=tar.stdout, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise LabError(
            f"{package.name} holds no kvm.ko and kvm-intel.ko: {_last_line(done.stderr)}"
        )
    return sorted(folder.rglob("kvm*.ko")), package.stem.rpartition("_")[0].replace("_", " ")


def _line_of(release: str) -> Kernel:
    """The line that a release belongs to.  Raises LabError."""
    for line in KERNELS.values():
        if any(re.fullmatch(pattern, f"linux-image-{release}") for pattern in line.patterns):
            return line
    raise LabError(f"{release} is no Debian kernel of {', '.join(KERNELS)}, cloud-amd64")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason told"])[-1]


def _fetch_into(folder: Path, wanted: Kernel, progress: Progress) -> None:
    with cache.creating(folder) as work:
        release = _download(wanted, work, progress)
        packages = sorted(work.glob("*.deb"))
        digest = cache.key_of(cache.file_digest(package) for package in packages)
        for package in packages:
            progress.stage(f"unpacking {package.name}")
            run(["dpkg", "-x", str(package), str(work / "root")])
            package.unlink()
        names = [package.name for package in packages]
        record = {
            "release": release,
            "packages": names,
            "digest": digest,
            "preferred": wanted.preferred,
        }
        (work / _RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _download(wanted: Kernel, work: Path, progress: Progress) -> str:
    """Download the packages of the newest kernel that some apt offers; its release."""
    for apt in _apts(wanted, progress):
        for release, package in _candidates(wanted, apt):
            companions = [name.format(release=release) for name in wanted.companions]
            if _downloaded(apt, [package, *companions], work, progress):
                return release
    raise LabError(f"apt offers no kernel {wanted.line} (suite {wanted.suite}, cloud-amd64)")


def source(wanted: Kernel, work: Path, progress: Progress) -> Path:
    """Download the package of the source of the newest kernel of a line."""
    package = f"linux-source-{wanted.line}"
    for apt in _apts(wanted, progress):
        if _downloaded(apt, [package], work, progress):
            return next(work.glob("*.deb"))
    raise LabError(f"apt offers no {package} (suite {wanted.suite})")


def source_archive(package: str, suite: str, work: Path, progress: Progress) -> Path:
    """Download the upstream archive of a source package, which apt holds against its digest."""
    progress.stage(f"downloading the source of {package}")
    line = f"deb-src [signed-by={_KEYRING}] {_mirrors()[0]} {suite} main\n"
    apt = _own_state(cache.root() / "apt" / f"{suite}-sources", line)
    command = ["apt-get", *apt, "source", "--download-only", "--tar-only", package]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    found = sorted(work.glob(f"{package}_*.orig.tar.*"))
    if done.returncode != 0 or not found:
        raise LabError(f"apt offers no source of {package} ({suite}): {_last_line(done.stderr)}")
    return found[0]


def unpacked(packages: list[str], suite: str, folder: Path, progress: Progress) -> None:
    """Download packages of a suite and unpack them below a folder; nothing is installed."""
    line = f"deb [signed-by={_KEYRING}] {_mirrors()[0]} {suite} main\n"
    apt = _own_state(cache.root() / "apt" / f"{suite}-programs", line)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        if not _downloaded(apt, packages, Path(name), progress):
            raise LabError(f"apt does not offer all of {' '.join(packages)} ({suite})")
        for package in sorted(Path(name).glob("*.deb")):
            run(["dpkg", "-x", str(package), str(folder)])


def _downloaded(apt: Sequence[str], packages: list[str], work: Path, progress: Progress) -> bool:
    """Download packages into a folder; whether this apt has them."""
    progress.stage(f"downloading {' '.join(packages)}")
    command = ["apt-get", *apt, "download", *packages]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    return done.returncode == 0


def _apts(wanted: Kernel, progress: Progress) -> Iterator[list[str]]:
    """Options for apt: the machine's own set-up, then one of the kernel's suite."""
    yield []
    folder = cache.root() / "apt" / wanted.suite
    progress.stage(f"reading the package lists of {wanted.suite}")
    yield _own_state(folder, _sources_list(wanted))


def _own_state(folder: Path, lines: str) -> list[str]:
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text(lines)
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Get::List-Cleanup": "0",
    }
    apt = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    run(["apt-get", *apt, "update"])
    return apt


def _sources_list(wanted: Kernel) -> str:
    """Sources for the kernel's suite, from the mirrors that the machine uses itself."""
    archive, security = _mirrors()
    signed = f"[signed-by={_KEYRING}]"
    lines = [f"deb {signed} {archive} {wanted.suite} main"]
    if wanted.security and security:
        lines.append(f"deb {signed} {security} {wanted.suite}-security main")
    return "\n".join(lines) + "\n"


def _mirrors() -> tuple[str, str]:
    """The addresses of the archive and of the security archive (empty if there is none)."""
    output = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"])
    by_suite = {suite: uri for uri, suite in (line.split() for line in output.splitlines())}
    plain = [uri for suite, uri in by_suite.items() if "-" not in suite]
    security = [uri for suite, uri in by_suite.items() if suite.endswith("-security")]
    if not plain:
        raise LabError("apt is configured with no Debian release; see apt-get indextargets")
    return plain[0], security[0] if security else ""


def _candidates(wanted: Kernel, apt: Sequence[str]) -> list[tuple[str, str]]:
    """(release, package) of every kernel of the line: the preferred one, then newest first."""
    names = run(["apt-cache", *apt, "pkgnames", "linux-"]).split()
    found = []
    for rank, pattern in enumerate(wanted.patterns):
        matches = (re.fullmatch(pattern, name) for name in names)
        found += [(match["release"], -rank, match[0]) for match in matches if match]
    found.sort(key=lambda entry: (entry[0] == wanted.preferred, _numbers(entry[0]), entry[1]))
    return [(release, package) for release, _, package in reversed(found)]


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", release))


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command[:1])} failed: {done.stderr.strip()}")
    return done.stdout
