# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-predict"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.commands.numbers import Usage, Written
from gdb_nept.commands.written import check_registers
from gdb_nept.judge.features import ATTACHED, model_names
from gdb_nept.judge.oracle import oracle
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.linear import LinearAccess
from gdb_nept.predict.model import PROCESSORS
from gdb_nept.render.page import Page, Pages, page_for_each
from gdb_nept.render.prediction import linear_page, prediction_page


@command(
    "nept-predict",
    *(argument(f"--{op.value}", dest="ops", action="append_const", const=op) for op in Op),
    argument("--user", action="store_true"),
    argument("--emulated", action="store_true"),
    argument("--stage", choices=[stage.value for stage in Stage], instead="linear"),
    argument("--linear", action="store_true", instead="linear"),
    argument("--all", action="store_true"),
    argument("--size", type="count", metavar="BYTES"),
    argument("--model", default=ATTACHED, metavar="M", complete=model_names),
    VM,
    VCPU,
    argument("addresses", type="expression", nargs="+", metavar="ADDRESS"),
)
def predict(context: Context, args: Namespace) -> Page | Pages:
    """Say which VM exit an access of L2 must cause, and why.

    Usage: nept-predict [--read | --write | --fetch | --rmw] [--user] [--emulated]
                        [--stage final|walk|pdpte] [--linear] [--size BYTES] [--model M]
                        [--all] [--vm N] [--vcpu N] [--limit N] [--json] [--no-color]
                        ADDRESS...

    ADDRESS is an L2 physical address; with --linear, an L2 linear address, which L2's own tables
    translate first, each of their entries read through EPT12.  In gdb, an expression such as $rsp
    is taken for L2's only if gdb stands on a processor that runs L2; else L2's own are told.
    Several are answered one after the other: --json has the list "predictions" then.

    --read (the default), --write, --fetch or --rmw (a read-modify-write instruction) is the
    access.  --user: the linear address is a user-mode one; with --linear: L2 runs at CPL 3.
    --emulated: L0's instruction emulator makes the access for L2.  --size BYTES: with --linear.

    --stage is what the address is to the processor: the translation of a linear address (final),
    an entry of L2's own tables (walk), or where MOV to CR loads the PDPTE registers from (pdpte).

    --model M is who answers: kvm (the attached kernel, as probed; the default), sdm (the processor
    of the manual), bochs-2.7, bochs-3.0, v2-2012, xen, a release such as kvm-6.1 (doc/models.md
    lists them); kvm@bochs-2.7 is KVM on Bochs.

    At most 14 lines tell it: of EPT12's entries those that decide, and the others if there is room.
    --all shows each bit of the qualification and what it means, not the set ones alone, all entries
    and notes, and with --linear the accesses before the one that decides, and L2's registers.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.

    All is computed from EPT12, controls and capabilities: no exit that happened takes part.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-predict 0x2004108 --write
      (gdb) nept-predict 0xffffffff81000000 --linear --fetch

    See also: nept-check, nept-walk, nept-decode
    """
    op = _kind(args)
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)
    asked = oracle(session, chosen, args.model)
    stage = Stage(args.stage or Stage.FINAL.value)

    def linear(address: Written) -> Page:
        check_registers(context, session, chosen, address.text)
        registers = guest_registers(session, chosen)
        whole = LinearAccess(L2Virt(address), args.size or 1, op, args.user, args.emulated)
        return linear_page(whole, registers, asked, args.all)

    def physical(address: Written) -> Page:
        access = Access(L2Phys(address), op, args.user, stage, emulated=args.emulated)
        return prediction_page(access, asked.physical(access), asked, args.all)

    return page_for_each("predictions", args.addresses, linear if args.linear else physical)


def _kind(args: Namespace) -> Op:
    """What the access does; raises Usage for options that do not go together."""
    ops: list[Op] = args.ops or [Op.READ]
    if len(ops) > 1:
        raise Usage("an access is one of --read, --write, --fetch, --rmw")
    if args.size is not None and not args.linear:
        raise Usage("--size is of an access at a linear address", "Give --linear, too.")
    if args.emulated and args.model in PROCESSORS:
        raise Usage(f"the processor {args.model} has no emulator", "Leave out --emulated.")
    return ops[0]
