# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-regs"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.kvm.vcpu_registers import GENERAL
from gdb_nept.nested.registers import OTHERS, USUAL, named, registers
from gdb_nept.render.page import Page
from gdb_nept.render.registers import registers_page


def register_names(word: str) -> list[str]:
    return [*GENERAL, *(name for name in USUAL if name not in GENERAL), *OTHERS]


@command(
    "nept-regs",
    argument("--all", action="store_true"),
    VM,
    VCPU,
    argument("names", nargs="*", metavar="NAME", complete=register_names),
)
def regs(context: Context, args: Namespace) -> Page:
    """Show L2's registers and L1's, each with where it is from.

    Usage: nept-regs [--all] [--vm N] [--vcpu N] [--limit N] [--json] [--no-color] [NAME...]

    NAME is a register: rip, rflags, cr3, or cs for all that belongs to it.  Without NAME those that
    people look at are shown, and with --all every one.

    L2's are what KVM saved at its last exit, or what vmcs12 has of them; under a number stands why
    one may be older than the processor's.  While L2 is active, L1's are those that the next VM exit
    gives it: the host-state area of vmcs12.  "-" is what L0 does not know: after an exit to L1 no
    one but L1 has L2's general registers.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-regs
      (gdb) nept-regs rip cs cr3

    See also: nept-vmcs12, nept-walk, nept-vms
    """
    session = context.session()
    found = registers(session, session.pick(args.vm, args.vcpu))
    if args.all:
        return registers_page(found, found.lines)
    return registers_page(found, named(found, args.names or USUAL))
