# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-vms"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.nested.nesting import nestings
from gdb_nept.render.page import Page
from gdb_nept.render.slots import with_slots
from gdb_nept.render.vms import vms_page


@command("nept-vms", argument("--slots", action="store_true"))
def vms(context: Context, args: Namespace) -> Page:
    """List the host's VMs and vCPUs, and mark those that run an L2.

    Usage: nept-vms [--slots] [--limit N] [--json] [--no-color]

    The number in column VM is what --vm takes in other commands, the one in column vCPU what
    --vcpu takes.  The oldest VM is 0.  "vmcs12 at" is the L1 physical address that L1 gave to
    VMPTRLD.  For a vCPU on which L2 is active, or whose signs of it disagree, each sign that KVM
    keeps is shown, and of each L2 which way of nesting it runs in: EPT on EPT; shadow on EPT, where
    L1 uses no EPT; or shadow on shadow, where L0 uses none either.

    --slots adds the memslots of each VM: which part of L1's physical memory lies where in the
    process that runs L1, and with which flags.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-vms
      (gdb) nept-vms --slots

    See also: nept-vmcs12, nept-ept, nept-walk
    """
    session = context.session()
    found = session.vms()
    return with_slots(vms_page(found, nestings(session, found)), found, drawn=args.slots)
