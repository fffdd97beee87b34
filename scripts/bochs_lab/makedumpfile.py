# SPDX-License-Identifier: GPL-2.0-or-later
"""A makedumpfile that knows zstd, which that of Debian 12 does not: Debian's own of a later suite,
with the libraries that it needs, unpacked and run by its own loader."""

from __future__ import annotations

from . import cache, packages
from .errors import LabError
from .progress import Progress

SUITE = "sid"
PACKAGES = (
    *("makedumpfile", "libc6", "libdw1t64", "libelf1t64", "liblzo2-2", "libzstd1", "zlib1g"),
    *("liblzma5", "libbz2-1.0"),
)


def command(progress: Progress) -> list[str]:
    """The words to run it with; fetched into the cache once.  Raises LabError."""
    wanted = list(PACKAGES)
    folder = cache.artifact(
        "makedumpfile",
        cache.key_of([SUITE, *wanted]),
        lambda work: packages.unpacked(wanted, SUITE, work, progress),
    )
    loaders = [path for path in folder.rglob("ld-linux-x86-64.so.2") if not path.is_symlink()]
    if not loaders:
        raise LabError(f"the libc6 of {SUITE} has no loader")
    libraries = folder / "usr" / "lib" / "x86_64-linux-gnu"
    program = folder / "usr" / "bin" / "makedumpfile"
    return [str(loaders[0]), "--library-path", str(libraries), str(program)]
