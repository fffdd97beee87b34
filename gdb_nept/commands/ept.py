# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-ept"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.nested.epts import Which
from gdb_nept.nested.listing import listing
from gdb_nept.render.ept import ept_page
from gdb_nept.render.page import Page


@command(
    "nept-ept",
    argument("--shadow", action="store_true", instead="EPT12"),
    argument("--l1", action="store_true", instead="EPT12"),
    argument("--entries", action="store_true", instead="runs"),
    argument("--summary", action="store_true", instead="runs"),
    argument("--all", action="store_true"),
    argument("--json-lines", action="store_true"),
    VM,
    VCPU,
    argument("range", nargs="?", type="range", metavar="RANGE"),
)
def ept(context: Context, args: Namespace) -> Page:
    """Show what an EPT maps, in runs, and the holes between them.

    Usage: nept-ept [--shadow | --l1] [--entries | --summary] [--limit N] [--vm N] [--vcpu N]
                    [--all] [--json | --json-lines] [--no-color] [RANGE]

    RANGE is LOW..HIGH (HIGH not included), LOW+SIZE, or one address for its page.  A "+" always
    stands before a size here: $a+8 is 8 bytes at $a.  Without RANGE the whole table is shown.

    Without an option it is EPT12, which L1 made for L2.  --shadow is EPT02, KVM's shadow of it,
    which the processor uses for L2; --l1 is EPT01, with which KVM runs L1.

    --entries shows every entry by itself, without merging.  --summary shows only how much is
    mapped, by rights, memory type and size of page; behind more than 200 runs it stands by itself.

    --limit N looks at N entries of tables at most, present or not; what was not looked at is told.
    Tables that lead to themselves, as a guest can write them, have no end.  Of the kernel's
    structures N/16 fields are looked at, but at least 262144.

    On a terminal 200 rows are shown; --all shows all of them.  The totals are of all.  --json-lines
    writes an object for each run, and one for the rest, a line each.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.  One on which L2 is active, or
    the only one in VMX operation, is found without them; with --l1 any of the only VM.

    Column "rights" is R, W, X and, with mode-based execute control, u for execution in user mode:
    the AND of all entries on the path.  "AD" are the accessed and dirty flags; in lower case they
    are set in some entries of the run only.  A misconfigured entry is shown with the reason.

    Flags of a leaf that are seldom set stand behind the address: IPAT (ignore PAT), VGP (verify
    guest paging), PW (paging-write), SSS (supervisor shadow stack), SPP (sub-page permissions), SVE
    (suppress #VE).  Those that the processor ignores with the EPTP and the controls in force are
    left out, and told once below: a hypervisor keeps bits of its own there.  For the same reason
    "AD" stands in square brackets where the EPTP does not enable these flags.

    In a dump without L1's memory (makedumpfile -d 31) EPT12 cannot be read, but for each entry that
    KVM has shadowed it kept which L1 page that is for: such rows are marked "derived", and the
    rights (">=R-X") are those that L1 grants at least, by KVM's access bits.  What KVM has not
    shadowed stays unread, and is no hole.

    Examples:
      (gdb) nept-ept
      (gdb) nept-ept --shadow 0x200000+2M

    See also: nept-walk, nept-decode, nept-vms
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu, of_l1=args.l1)
    which = Which.SHADOW if args.shadow else Which.HOST if args.l1 else Which.L1
    found = listing(session, chosen, which, args.range, args.entries)
    return ept_page(found, args.summary)
