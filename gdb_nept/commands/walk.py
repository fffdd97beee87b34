# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-walk"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.address import L2Phys
from gdb_nept.commands.command import VCPU, VM, Context, argument, command
from gdb_nept.render.journey import journey_page
from gdb_nept.render.page import Page, Pages, page_for_each


@command(
    "nept-walk",
    argument("--tables", action="store_true"),
    VM,
    VCPU,
    argument("--json-lines", action="store_true"),
    argument("addresses", type="address", nargs="+", metavar="ADDRESS"),
)
def walk(context: Context, args: Namespace) -> Page | Pages:
    """Follow an L2 physical address through every table to the host's memory.

    Usage: nept-walk [--tables] [--vm N] [--vcpu N] [--limit N] [--json | --json-lines]
                     [--no-color] ADDRESS...

    ADDRESS is an L2 physical address: a number (0x1000, 4096, 4K), or in gdb an expression such
    as $a+8, in quotes if it has spaces.  Several are answered one after the other: --json has the
    list "walks" then, and --json-lines an object on a line for each, also for one alone.

    --tables also shows, for each table of KVM's own, its kvm_mmu_page: which table of L1's it
    shadows, whether it is out of sync, and its role bit by bit.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.  One on which L2 is active, or
    the only one in VMX operation, is found without them.

    The address goes three ways, with a line for each entry read: through EPT12 (L1's tables), the
    memslot and the page tables of the VMM; through EPT02, KVM's shadow of EPT12; and from L1's
    physical address through EPT01.  "verdict", at the end, says whether they agree, and if not,
    what that means; "at fault" says who made a mistake: L1 (and what it forgot), KVM (and which of
    its functions should have caught it) or the VMM.  Without that line nobody did.

    EPT02 is the one of the EPTP that vmcs12 has now: if L1 has written another since it last
    entered L2, it is one that KVM keeps for it, or there is none yet.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-walk 0x7f3000
      (gdb) nept-walk 0x7f3000 0x7f4000 0x200000

    See also: nept-ept, nept-decode, nept-vms
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)

    def walked(address: int) -> Page:
        return journey_page(session.journey(chosen, L2Phys(address)), args.tables)

    return page_for_each("walks", args.addresses, walked, listed=args.json_lines)
