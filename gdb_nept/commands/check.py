# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-check"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.judge.check import check as run_check
from gdb_nept.judge.features import ATTACHED, model_names, named_model
from gdb_nept.nested.epts import Which
from gdb_nept.render.check import check_page
from gdb_nept.render.page import Page


@command(
    "nept-check",
    argument("--model", default=ATTACHED, metavar="M", complete=model_names),
    VM,
    VCPU,
)
def check(context: Context, args: Namespace) -> Page:
    """Hold the last EPT exit that L1 was told against the prediction.

    Usage: nept-check [--model M] [--vm N] [--vcpu N] [--limit N] [--json] [--no-color]

    vmcs12 keeps the exit that L1 saw last.  From it nept-check takes the place of the access
    alone, the guest-physical and guest-linear address, and predicts every kind of access to that
    place from EPT12 as it stands.  Only then it reads the exit reason and the qualification, and
    says which access they agree with, or in which bits they differ from the nearest, and which
    known bug of which kernel leads to just that.

    What the access was is inferred, then, and so is whether the processor made it or L0's
    emulator.  Whether the two addresses belong together is told by L2's own page tables.  If L1
    has changed EPT12 since the exit, the comparison is with the changed tables.

    --model M is that of nept-predict; the default is the attached kernel.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-check
      (gdb) nept-check --model sdm

    See also: nept-predict, nept-vmcs12, nept-decode
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)
    refusal = session.ept(chosen, Which.L1).refusal
    return check_page(run_check(session, chosen, named_model(session, chosen, args.model)), refusal)
