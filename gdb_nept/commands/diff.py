# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-diff"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.command import VCPU, VM, Context, argument, command
from gdb_nept.nested.state import difference, state_of
from gdb_nept.render.diff import diff_page, marked_page
from gdb_nept.render.page import Page


@command(
    "nept-diff",
    argument("--keep", action="store_true"),
    argument("--all", action="store_true"),
    VM,
    VCPU,
)
def diff(context: Context, args: Namespace) -> Page:
    """Tell what changed in vmcs12, EPT12 and the shadow EPT since the last nept-diff.

    Usage: nept-diff [--keep] [--all] [--vm N] [--vcpu N] [--json] [--no-color]

    The first time, the state of the vCPU is kept, and that is all.  After the target has run,
    nept-diff shows what is different: fields of vmcs12, entries of EPT12 (L1's doing) and of EPT02
    (KVM's), each bit that came (+) or went (-).  The state of now is then kept for the next time;
    with --keep the old one stays.

    nept-watch and nept-diff go together: keep a state, watch one fault, and see what it changed.

    --all shows more than the first 40 entries.  --vm N and --vcpu N choose a vCPU by its numbers
    in nept-vms; each has a state of its own.

    Example:
      (gdb) nept-diff
      (gdb) nept-watch --follow --count 1
      (gdb) nept-diff

    See also: nept-watch, nept-vmcs12, nept-ept
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)
    place = (chosen.owner.address, chosen.vcpu.address)
    now, before = state_of(session, chosen), context.states.get(place)
    if before is None or not args.keep:
        context.states[place] = now
    return marked_page(now) if before is None else diff_page(difference(before, now), args.all)
