# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-x"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.commands.numbers import Usage
from gdb_nept.commands.written import check_registers
from gdb_nept.errors import BadInput
from gdb_nept.nested.examine import Space, examine
from gdb_nept.nested.guest_registers import code_bits
from gdb_nept.render.examined import examined_page
from gdb_nept.render.page import Page
from gdb_nept.render.units import Units, units

SPACES = {
    "--l2-physical": Space.L2_PHYSICAL,
    "--l1": Space.L1_PHYSICAL,
    "--host": Space.HOST_PHYSICAL,
}


@command(
    "nept-x",
    *(
        argument(flag, action="store_const", const=space, dest="space", instead="space")
        for flag, space in SPACES.items()
    ),
    VM,
    VCPU,
    argument("words", nargs="+", metavar="ADDRESS"),
)
def x(context: Context, args: Namespace) -> Page:
    """Examine memory of L2, as gdb's x does its own.

    Usage: nept-x [--l2-physical | --l1 | --host] [--vm N] [--vcpu N] [--limit N] [--json]
                  [--no-color] [/FMT] ADDRESS

    ADDRESS is an L2 linear address, which L2's own tables translate, and EPT12 behind them; with
    --l2-physical, --l1 or --host it is an L2 physical, L1 physical or host physical one.  In gdb
    it may be an expression.

    /FMT is as that of gdb's x: how many, a letter (x z d u o t a c f s i), a size (b h w g); it may
    stand behind the name at once.  /i needs the Python package capstone.

    Pages that are neighbours here need not be neighbours in L1 or in the host: each is found by
    itself.  Where one cannot be read, the line says where and why; nothing unread is shown as 0.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-x/8xg 0xffffffff81000000
      (gdb) nept-x/3i $nept_l2_reg("rip")
      (gdb) nept-x/s --l1 0x10000

    See also: nept-walk, nept-regs, nept-export
    """
    first, *rest = args.words
    made = _units(first) if first.startswith("/") else Units()
    written = " ".join(rest if first.startswith("/") else args.words)
    if not written:
        raise Usage("nept-x: an address is missing", "Write nept-x/8xg ADDRESS.")
    session = context.session()
    space = args.space or Space.L2_LINEAR
    of_l1 = space in (Space.L1_PHYSICAL, Space.HOST_PHYSICAL)
    chosen = session.pick(args.vm, args.vcpu, of_l1)
    if space is Space.L2_LINEAR:
        check_registers(context, session, chosen, written)
    found = examine(session, chosen, space, context.number(written), made.bytes)
    return examined_page(chosen, found, made, code_bits(session, chosen, of_l1))


def _units(written: str) -> Units:
    try:
        return units(written)
    except BadInput as error:
        raise Usage(error.message, error.advice) from None
