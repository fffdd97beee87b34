# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/layouts: layouts of KVM's types, from the DWARF of its modules.

gdb reads the DWARF; what it found is written as gdb_nept/target/layouts.py tells.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bochs_lab import packages, progress
from bochs_lab.errors import LabError

from gdb_nept.errors import BadInput, NeptError
from gdb_nept.target.elf import Identity, identity
from gdb_nept.target.layout_writer import ROOTS, written
from gdb_nept.target.layouts import VMLINUX

ROOT = Path(__file__).resolve().parents[1]
IN_GDB = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from gdb_nept.target.gdb.debugger import GdbDebugger
from gdb_nept.target.layout_writer import dump
dump(GdbDebugger(gdb.objfiles()[0]), {module!r}, Path({target!r}))
"""
NEXT = """made {file}: types of {objects} of Linux {release}
Take it:
    (gdb) set nept btf {file}
    nept --dump MEMORY --btf {file} vms"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    if bool(args.files) == bool(args.debian):
        parser.error("name files, or --debian RELEASE")
    try:
        with tempfile.TemporaryDirectory() as work:
            files = [path.absolute() for path in args.files]
            source = "DWARF"
            if args.debian:
                teller = progress.for_stream(sys.stderr)
                files, source = packages.debug_files(args.debian, Path(work), teller)
            print(make(files, source, args.output, args.debian or ""))
    except (NeptError, LabError) as error:
        print(f"layouts: {error}", file=sys.stderr)
        return 1
    return 0


def make(files: Sequence[Path], source: str, output: Path | None, release: str = "") -> str:
    """Write the file; what to tell the user.  Raises BadInput."""
    found = {_object(each): (path, each) for path, each in ((p, identity(p)) for p in files)}
    releases = {each.release for _, each in found.values() if each.release}
    if len(releases) > 1:
        raise BadInput(f"the files are of different kernels: {', '.join(sorted(releases))}")
    known = next(iter(releases), "") or release or _release_of(files)
    types = {name: dwarf_types(found[name][0], name) for name in ROOTS if name in found}
    build_ids = {name: found[name][1].build_id for name in types}
    target = output or Path(f"layouts-{known or 'unknown'}.json")
    target.write_text(written(known, source, build_ids, types))
    return NEXT.format(file=target, objects=", ".join(types), release=known or "unknown")


def _object(found: Identity) -> str:
    name = found.module or VMLINUX
    if name not in ROOTS:
        raise BadInput(f"{name} is none of {', '.join(ROOTS)}", "Name files of KVM on Intel.")
    return name


def _release_of(files: Sequence[Path]) -> str:
    """The release in /usr/lib/debug/lib/modules/RELEASE/..., where the file does not tell."""
    found = (re.search(r"/modules/([^/]+)/", str(path)) for path in files)
    return next((match[1] for match in found if match), "")


def dwarf_types(path: Path, module: str) -> dict[str, Any]:
    """What gdb reads of `path`.  Raises BadInput if that is nothing."""
    with tempfile.TemporaryDirectory() as work:
        script, target = Path(work) / "run.py", Path(work) / "types.json"
        script.write_text(IN_GDB.format(root=str(ROOT), module=module, target=str(target)))
        words = ["gdb", "-nx", "-batch", str(path), "-ex", f"source {script}"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise BadInput("there is no gdb here", "Install the package gdb.") from None
        types: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}
    if not types:
        told = done.stderr.strip().splitlines()[-1:] or [""]
        raise BadInput(
            f"gdb finds no struct {ROOTS[module][0]} in {path}: {told[0] or 'no debug info'}",
            "Name the file with DWARF: kvm.ko.debug, or the .ko in the package of debug symbols.",
        )
    return types


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/layouts",
        description="Write the layouts of KVM's types, out of the DWARF of its modules, for a "
        "kernel whose modules carry no BTF (before 5.11, or CONFIG_DEBUG_INFO_BTF_MODULES off).",
    )
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="kvm.ko, kvm-intel.ko with DWARF; and "
        "vmlinux, if it has no BTF either")  # fmt: skip
    add("--debian", metavar="RELEASE", help="download Debian's package of debug symbols of "
        "this release (260 MB): 5.10.0-32-cloud-amd64")  # fmt: skip
    add("-o", "--output", type=Path, metavar="FILE", help="default: layouts-RELEASE.json")
    return parser
