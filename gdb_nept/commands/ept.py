# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-ept"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.command import VCPU, VM, Context, argument, command
from gdb_nept.nested.listing import listing
from gdb_nept.nested.session import Which
from gdb_nept.render.ept import ept_page
from gdb_nept.render.page import Page


@command(
    "nept-ept",
    argument("--shadow", action="store_true"),
    argument("--l1", action="store_true"),
    argument("--entries", action="store_true"),
    VM,
    VCPU,
    argument("range", nargs="?", type="range", metavar="RANGE"),
)
def ept(context: Context, args: Namespace) -> Page:
    """Show what an EPT maps: neighbours merged into runs, and the holes between them.

    Usage: nept-ept [--shadow | --l1] [--entries] [--vm N] [--vcpu N] [--json] [--no-color] [RANGE]

    RANGE is LOW..HIGH (HIGH not included), LOW+SIZE, or one address for its page.  Without it the
    whole table is shown.

    Without an option it is EPT12, which L1 made for L2.  --shadow is EPT02, KVM's shadow of it,
    which the processor uses for L2; --l1 is EPT01, with which KVM runs L1.

    --entries shows every entry by itself, without merging.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.  One on which L2 is active, or
    the only one in VMX operation, is found without them.

    Column "rights" is R, W, X and, with mode-based execute control, u for execution in user mode:
    the AND of all entries on the path.  "AD" are the accessed and dirty flags.  A misconfigured
    entry is shown with the reason.

    Examples:
      (gdb) nept-ept
      (gdb) nept-ept --shadow 0x200000+2M

    See also: nept-walk, nept-decode, nept-vms
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)
    which = Which.SHADOW if args.shadow else Which.HOST if args.l1 else Which.L1
    return ept_page(listing(session, chosen, which, args.range, args.entries))
