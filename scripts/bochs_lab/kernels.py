# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels that the lab can boot as L0, as data.

Each is a Debian kernel of the cloud flavour.  Its packages are named by patterns; a pattern
must give the same `release` for every package of one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """One line of kernels and where Debian keeps it."""

    line: str
    suite: str  # Debian's code name of the release that carries it
    patterns: tuple[str, ...]  # of package names, in order of preference
    companions: tuple[str, ...] = ()  # packages wanted besides, `{release}` filled in
    preferred: str = ""  # the release with which the lab is known to work
    words: tuple[str, ...] = ()  # more words for the kernel's command line
    security: bool = True  # whether the suite has a security archive

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the names of its packages begin with, before the version."""
        return tuple(pattern.split("(?P<release>")[0] for pattern in self.patterns)


_SIGNED = r"linux-image-(?P<release>{}[^-]*(?:-\d+)?-cloud-amd64)"
_UNSIGNED = _SIGNED + "-unsigned"
_BINARY = r"linux-binary-unsigned-(?P<release>{}[^-]*(?:-\d+)?-cloud-amd64)"


def _image(version: str) -> tuple[str, ...]:
    return _SIGNED.format(version), _UNSIGNED.format(version)


KERNELS: dict[str, Kernel] = {
    kernel.line: kernel
    for kernel in (
        # the last of bullseye's own archive: of later ones the debug symbols do not stay
        Kernel("5.10", "bullseye", _image(r"5\.10\."), preferred="5.10.0-32-cloud-amd64"),
        Kernel("6.1", "bookworm", _image(r"6\.1\."), preferred="6.1.0-52-cloud-amd64"),
        Kernel("6.12", "trixie", _image(r"6\.12\.")),
        Kernel(
            "7.2",
            "sid",
            (_BINARY.format(r"7\.2\."),),
            companions=("linux-modules-{release}",),
            words=("noxsave",),  # its XSAVE set-up asks more than Bochs' processor has
            security=False,
        ),
    )
}
DEFAULT = "6.1"
WITH_KGDB = "6.1"  # the line whose source is built with kgdb
