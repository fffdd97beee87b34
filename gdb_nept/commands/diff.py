# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-diff"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.errors import NoGuest
from gdb_nept.live.state import difference
from gdb_nept.render.diff import diff_page, taken_page
from gdb_nept.render.page import Page


@command(
    "nept-diff",
    argument("--mark", action="store_true", instead="mark"),
    argument("--from-mark", action="store_true", instead="mark"),
    argument("--all", action="store_true"),
    VM,
    VCPU,
)
def diff(context: Context, args: Namespace) -> Page:
    """Tell what changed in vmcs12, EPT12 and EPT02 since the last stop.

    Usage: nept-diff [--mark | --from-mark] [--all] [--vm N] [--vcpu N] [--limit N]
                     [--json] [--no-color]

    The first time, the state of the vCPU is taken, and that is all.  From then on it is taken at
    each stop of the target, unless that takes longer than a quarter of a second (over kgdb, or with
    a large L2), or Ctrl-C comes in between: then only at the next nept-diff.  It shows what is
    different from the stop before: fields of vmcs12, entries of EPT12 (L1's doing) and of EPT02
    (KVM's), each bit that came (+) or went (-), and says with which stop it compares.

    nept-watch and nept-diff go together: the stops within nept-watch do not count, so that after it
    nept-diff shows what changed since it began.

    --mark keeps the state of now, and --from-mark compares with that, however many stops ago.
    --all shows more than the first 40 entries.  --vm N and --vcpu N choose a vCPU by its numbers
    in nept-vms; each has states of its own.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Example:
      (gdb) nept-diff
      (gdb) nept-watch --follow --count 1
      (gdb) nept-diff

    See also: nept-watch, nept-vmcs12, nept-ept
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)
    now = context.stops.now(session, chosen)
    if args.mark:
        context.stops.mark(chosen)
        return taken_page(now, marked=True)
    before = context.stops.marked(chosen) if args.from_mark else context.stops.earlier(chosen)
    if before is None and args.from_mark:
        raise NoGuest("no state of this vCPU was marked", "Mark one: nept-diff --mark")
    if before is None:
        return taken_page(now)
    return diff_page(difference(before.state, now.state), args.all, before, now)
