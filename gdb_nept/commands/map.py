# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-map"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.nested.space_map import space_map
from gdb_nept.render.map_html import MOST, write_picture
from gdb_nept.render.map_text import map_page
from gdb_nept.render.page import Page


@command(
    "nept-map",
    argument("--text", action="store_true", instead="a picture"),
    argument("--output", type="file", metavar="FILE", instead="a picture"),
    argument("--force", action="store_true"),
    VM,
    VCPU,
    argument("range", nargs="?", type="range", metavar="RANGE"),
)
def map(context: Context, args: Namespace) -> Page:
    """Draw L2's guest-physical space: EPT12 above EPT02.

    Usage: nept-map [--text | --output FILE [--force]] [--limit N] [--vm N] [--vcpu N] [--json]
                    [--no-color] [RANGE]

    In the terminal (with --text, or no option) each region of the space is a strip for each table,
    with a sign for each part: its rights, what is misconfigured, and what is not there.  Where the
    holes between regions are wide they are left out.

    RANGE, of L2 physical addresses, is LOW..HIGH (HIGH not included), LOW+SIZE, or one address for
    its page; without it all is drawn.

    In a dump without L1's memory EPT12 is derived from KVM's shadow, as nept-ept does it; what KVM
    has not shadowed is not read, and what there is of it between regions is left out as holes are.

    --output FILE writes a picture for a browser, one HTML file that needs nothing else: to zoom
    and pan with the mouse or with keys, with memory types, leaf sizes and memslots.  FILE must not
    be there yet; --force replaces it.

    --limit N looks at N entries of tables at most; what was not looked at is told.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.

    Examples:
      (gdb) nept-map
      (gdb) nept-map --output l2.html

    See also: nept-ept, nept-compare, nept-walk
    """
    session = context.session()
    low, high = args.range or (0, None)
    found = space_map(session, session.pick(args.vm, args.vcpu), low, high)
    if args.output is None:
        return map_page(found)
    write_picture(found.coarse(MOST), args.output, args.force, session.kernel.release)
    return map_page(found, str(args.output))
