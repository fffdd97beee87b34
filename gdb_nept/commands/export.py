# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-export"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.commands.numbers import Usage
from gdb_nept.memory.budget import shared
from gdb_nept.nested.choice import vm_at
from gdb_nept.nested.spaces import l1_of_vcpu, l1_of_vm, l2_of_vcpu
from gdb_nept.render.export import export_page
from gdb_nept.render.page import Page


@command(
    "nept-export",
    argument("--l1", action="store_true", instead="whose"),
    argument("--l2", action="store_true", instead="whose"),
    argument("--output", type="file", required=True, metavar="FILE"),
    argument("--force", action="store_true"),
    VM,
    VCPU,
)
def export(context: Context, args: Namespace) -> Page:
    """Write the memory of L1 or L2 as an ELF core for crash, drgn, gdb.

    Usage: nept-export (--l1 | --l2) --output FILE [--force] [--limit N] [--vm N] [--vcpu N]
                       [--json] [--no-color]

    --l1 is the memory of a VM, through its memslots; --l2 is what EPT12 of a nested vCPU maps, for
    reading or not.  Each stretch is a PT_LOAD at its guest-physical address.

    --output FILE must not be there yet; --force replaces an older export, and nothing else.  FILE
    is there once it is whole, and only its owner can read it.

    What cannot be read is left out of FILE and told here by its kind: filtered from the dump,
    swapped out, not mapped by the process that runs L1.  Pages of zeros are the guest's own, and
    take no place on the disk.

    Where the guest is a Linux whose vmcoreinfo is found in the memory, it is taken over as the note
    that drgn and crash look for; nept --dump FILE then sees the guest's own KVM, if it has one.

    Registers are not in FILE: there is no note of any CPU (NT_PRSTATUS), since a core could not say
    which number is L2's now and which is of its last exit.  nept-regs tells both; the notes are
    GDB_NEPT, which says whose memory it is, and that vmcoreinfo.

    --limit N copies N pages at most (with --l2 entries of tables count as well); what was not
    looked at is told.  --vm N and --vcpu N choose a VM and a vCPU by their numbers in nept-vms.

    Examples:
      (gdb) nept-export --l1 --output l1.core
      (gdb) nept-export --l2 --output l2.core --vm 0 --vcpu 1

    See also: nept-ept, nept-regs, nept-vms, nept-target
    """
    if not (args.l1 or args.l2):
        raise Usage("whose memory?", "Say --l1 or --l2.")
    session = context.session()
    if args.l1 and args.vm is not None and args.vcpu is None:
        memory = l1_of_vm(session, vm_at(session.vms(), args.vm))
        return export_page(memory.export(args.output, args.force, shared()))
    chosen = session.pick(args.vm, args.vcpu, of_l1=args.l1)
    of_vcpu = (l2_of_vcpu if args.l2 else l1_of_vcpu)(session, chosen)
    return export_page(of_vcpu.export(args.output, args.force, shared()))
