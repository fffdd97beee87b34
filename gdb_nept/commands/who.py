# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-who"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.address import HostPhys, HostVirt, L1Phys
from gdb_nept.arch.ept import check_physical
from gdb_nept.commands.arguments import VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.commands.numbers import Usage
from gdb_nept.nested.at_hand import host_of_l1, host_of_vmm
from gdb_nept.nested.choice import vm_at
from gdb_nept.nested.owners import owners
from gdb_nept.render.owners import owners_page
from gdb_nept.render.page import Page


@command(
    "nept-who",
    argument("--l1", action="store_true", instead="space"),
    argument("--hva", action="store_true", instead="space"),
    VM,
    argument("address", type="address", metavar="ADDRESS"),
)
def who(context: Context, args: Namespace) -> Page:
    """Say which addresses of L1s and L2s lead to a page of the host.

    Usage: nept-who [--l1 | --hva] [--vm N] [--limit N] [--json] [--no-color] ADDRESS

    ADDRESS is a host physical address; with --l1 an L1 physical one, with --hva a virtual one of
    the VMM's process, both of the VM that --vm N chooses (the only one, if there is one alone).

    The memslots and page tables of every VM are looked through for the page, then EPT12 and EPT02
    of each vCPU on which an L1 runs an L2.  A page that several L1 pages have is shared: by the
    VMM, or by the host's KSM.

    --limit N looks at N entries of tables; what was not looked at is told.

    Examples:
      (gdb) nept-who 0x6020000
      (gdb) nept-who --l1 0x1020000 --vm 0

    See also: nept-walk, nept-vms, nept-ept
    """
    if not args.hva:
        check_physical(args.address)
    session = context.session()
    page = HostPhys(args.address)
    if args.l1 or args.hva:
        listed = session.vms()
        if args.vm is None and len(listed.vms) != 1:
            raise Usage(f"there are {len(listed.vms)} VMs", "Say which with --vm N.")
        owner = vm_at(listed, args.vm or 0)
        if args.l1:
            page = host_of_l1(session, owner, session.slots_of(owner), L1Phys(args.address))
        else:
            page = host_of_vmm(session, owner, HostVirt(args.address))
    elif args.vm is not None:
        raise Usage("--vm is of an address of a VM", "Give --l1 or --hva, too.")
    return owners_page(owners(session, page))
