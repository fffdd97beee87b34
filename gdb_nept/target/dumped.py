# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel in a dump."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gdb_nept.memory.budget import Progress
from gdb_nept.memory.dump import Dump
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.linux import attach

NOTHING = [range(0)]  # where no range at all would mean that none is known


def attach_dump(
    dump: Dump,
    *,
    btf_files: Sequence[Path] = (),
    progress: Progress | None = None,
    cache: Path | str | None = "",
) -> LinuxKernel:
    """The kernel of the host that was dumped: found by the dump's own vmcoreinfo where it has one,
    else by its CPUs' CR3, else by a search.  The arguments are those of `target.linux.attach`.
    Raises NoKernel, and BadInput for a file of types that is not of this kernel."""
    return attach(
        dump.memory,
        lambda: dump.memory.data_ranges() or NOTHING,
        btf_files=btf_files,
        cr3s=[one.cr3 for one in dump.cpus if one.cr3],
        vmcoreinfo_text=dump.vmcoreinfo,
        progress=progress,
        cache=cache,
        near=True,
    )
