# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-target"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.render.page import Page
from gdb_nept.render.target import target_page


@command("nept-target")
def target(context: Context, args: Namespace) -> Page:
    """Tell what is attached, how it is read, and what is missing.

    Usage: nept-target [--limit N] [--json] [--no-color]

    Shows the target, how its physical memory is read, which Linux runs there, and where symbols
    and types came from.  With the kernel's vmlinux loaded in gdb ("file vmlinux"), its DWARF is
    used, else what the kernel keeps in its own memory: kallsyms and BTF.  What could not be found
    is named, with what to do about it.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Example:
      (gdb) target remote localhost:1234
      (gdb) nept-target

    See also: nept-vms
    """
    return target_page(context.attachment())
