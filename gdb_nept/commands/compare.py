# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-compare"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.memory.budget import shared
from gdb_nept.nested.bulk import Comparison
from gdb_nept.render.compare import compare_page
from gdb_nept.render.page import Page


@command(
    "nept-compare",
    argument("--all", action="store_true"),
    argument("--json-lines", action="store_true"),
    VM,
    VCPU,
    argument("range", nargs="?", type="range", metavar="RANGE"),
)
def compare(context: Context, args: Namespace) -> Page:
    """Compare EPT12 with EPT02, KVM's shadow of it, page by page.

    Usage: nept-compare [--limit N] [--vm N] [--vcpu N] [--all] [--json | --json-lines]
                        [--no-color] [RANGE]

    RANGE, of L2 physical addresses, is LOW..HIGH (HIGH not included), LOW+SIZE, or one address for
    its page.  Without it all is compared that EPT12 can translate.

    Each page has the verdict that nept-walk gives it, and neighbours of one verdict are a row.  Of
    rows that are stale or broken, what nept-walk says of the first page stands below.

    In a dump without L1's memory EPT12 is derived from KVM's shadow where that tells of it, as
    nept-ept does it, and the row says so: "one page" where the L1 page that KVM noted and EPT02
    lead to the same page of the host, "two pages" where they do not.

    --limit N looks at N entries of tables at most; what was not looked at is told.  On a terminal
    200 rows are shown; --all shows all of them.  --json-lines writes an object for each row, and
    one for the rest, a line each.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.

    Examples:
      (gdb) nept-compare
      (gdb) nept-compare 0x200000+2M

    See also: nept-walk, nept-ept, nept-vms
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)
    low, high = args.range or (0, None)
    return compare_page(Comparison(session, chosen, shared()), low, high)
