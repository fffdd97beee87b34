# SPDX-License-Identifier: GPL-2.0-or-later
"""What each command of the lab takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import kernels
from .emulator import INSTALLED, SKYLAKE, VERSIONS
from .options import BOCHS_MEMORY_LIMIT, PARK_POINTS, Timeouts


def add_own_options(name: str, command: argparse.ArgumentParser) -> None:
    """Those of the command `name` alone."""
    add = command.add_argument
    if name in ("build", "kernel", "up"):
        add("--kgdb", action="store_true", help="with a kernel that is built with kgdb")
    if name == "kernel":
        add("--refresh", action="store_true", help="look for a newer source package")
    if name == "up":
        add("--stub", action="store_true", help="with a gdb stub; prints what to type into gdb")
    if name in ("up", "stub"):
        add("--gdb-port", type=_port, metavar="PORT", help="of its gdb stub; default: a free one")
    elif name == "snapshot":
        add("--force", action="store_true", help="take it anew even if there is one")
        add("--output", type=Path, metavar="DIR", help="copy the snapshot to DIR")
    elif name == "replay":
        add("snapshot", nargs="?", type=Path, metavar="SNAPSHOT", help="its directory")
        add("--gdb-port", type=_port, metavar="PORT", help="of the loopback; default: a free one")
        add("--gdb-socket", type=Path, metavar="PATH", help="a unix socket in place of a port")
        add("--detach", action="store_true", help="leave it in the background, until `lab down`")
    elif name == "bare":
        add("--guests", type=Path, metavar="DIR", help="built guests in place of tests/guests")
        add("--states", action="store_true", help="the L1 that does what hypervisors do")
        add("--words", default="", metavar="WORDS", help="of L1's command line: quiet=1")
        _add_processor(add)
    elif name == "overlay":
        add("overlay", choices=["linux-kvm"], help="L1: Linux with KVM, in QEMU")
        add("--kernel", choices=list(kernels.KERNELS), default=kernels.DEFAULT, help="L1's kernel")
    elif name == "status":
        add("--json", action="store_true", help="as JSON")


def _port(written: str) -> int:
    """Raises argparse's error for what is no TCP port."""
    if not (written.isdecimal() and 1 <= int(written) <= 65535):
        raise argparse.ArgumentTypeError(f"{written} is no port: they are 1 to 65535")
    return int(written)


def _add_processor(add: Callable[..., Any]) -> None:
    add("--bochs", choices=VERSIONS, default=INSTALLED, help="its version; 3.0 is built once")
    add(
        "--cpu", default=SKYLAKE, metavar="MODEL", help=f"of Bochs' processors (default: {SKYLAKE})"
    )


def shaping_options() -> argparse.ArgumentParser:
    """The options that say which machine is meant."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("the machine").add_argument
    usual = Timeouts()
    add("--kernel", choices=list(kernels.KERNELS), default=kernels.DEFAULT, help="L0's kernel")
    _add_processor(add)
    add("--kaslr", action="store_true", help="let the kernel choose its addresses")
    add("--pti", action="store_true", help="kernel page-table isolation (default: off)")
    add("--memory", type=int, default=512, metavar="MIB", help=f"up to {BOCHS_MEMORY_LIMIT}")
    add("--overlay", type=Path, metavar="DIR", help="files to add to L0; /lab-run is run if there")
    add("--append", default="", metavar="WORDS", help="more of the kernel line; lab.X=Y: guests'")
    add("--states", action="store_true", help="L1 does what hypervisors do; more park points")
    add("--l2", choices=["ours", "linux"], default="ours", help="linux: L1 and L2 are Linux")
    where = f"where to stop (default: l2): {', '.join(PARK_POINTS)}"
    add("--park", choices=PARK_POINTS, default="l2", metavar="POINT", help=where)
    add("--guests", type=Path, metavar="DIR", help="built guests in place of tests/guests")
    add("--refresh", action="store_true", help="look for a newer kernel package")
    add("--boot-timeout", type=float, default=usual.boot, metavar="SECONDS", help="until L0's init")
    add("--park-timeout", type=float, default=usual.park, metavar="SECONDS", help="and from there")
    return parser
