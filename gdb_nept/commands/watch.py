# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-watch"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.commands.fault_log import NO_LIMIT, FaultLog, written
from gdb_nept.errors import NoGuest
from gdb_nept.judge.features import ATTACHED, model_names
from gdb_nept.live.watch import Watch
from gdb_nept.render.page import Page
from gdb_nept.render.watch import watch_page


@command(
    "nept-watch",
    argument("--count", type="count", metavar="N"),
    argument("--until-mismatch", action="store_true"),
    argument("--follow", action="store_true"),
    argument("--gpa", type="range", metavar="RANGE"),
    argument("--model", default=ATTACHED, metavar="M", complete=model_names),
    argument("--json-lines", type="file", metavar="FILE"),
    VM,
    VCPU,
)
def watch(context: Context, args: Namespace) -> Page:
    """Run the target, and hold each EPT exit against the prediction.

    Usage: nept-watch [--count N] [--until-mismatch] [--follow] [--gpa RANGE] [--model M]
                      [--json-lines FILE] [--vm N] [--vcpu N] [--limit N] [--json] [--no-color]

    The target runs until Ctrl-C, until another breakpoint of yours, or as the options say.  Where
    KVM is about to make an EPT exit for L1 it stops for a moment: there the exit is predicted from
    EPT12 as it stands.  Of the access are taken the address that KVM found at fault (with --follow
    the one that the processor reported), and what the processor reported when it left L2 (read,
    write or fetch; of a page walk or not).  Then KVM goes on until vmcs12 is complete, and exit
    reason, qualification, guest-physical and guest-linear address are compared.  A line is printed
    for each, and a table of counts at the end.

    "agree, not SDM": KVM did what the model says, and the SDM says something else.  A cause is told
    in full once, and named by its letter after that; in fewer than 100 columns L2's linear address
    is left out.  "access not seen": the processor left L2 for
    another reason (an I/O instruction), and L0's emulator made the access; before Linux 6.12.117 it
    leaves many bits undefined, so that "agree" means less there.

    --count N stops after N faults.  --until-mismatch stops at the first that differs; vmcs12 is as
    KVM has just written it then.  --follow also shows the faults of L2 that L0 deals with alone
    (shadow entry made, write tracking, MMIO), and why L1 never sees them; it stops at each EPT
    fault of L1, too, and is slower.

    --gpa RANGE shows the faults at these L2 physical addresses alone: LOW..HIGH (HIGH not
    included), LOW+SIZE, or one address for its page.

    --model is that of nept-predict; the default is the attached kernel.  --json-lines FILE writes
    each fault as a line of JSON.  --vm N and --vcpu N (both) watch that vCPU alone.

    The breakpoints are hardware breakpoints where the stub has them, but software ones over kgdb,
    which has them even where the processor does not.  None is left at the end.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-watch
      (gdb) nept-watch --until-mismatch --model sdm
      (gdb) nept-watch --gpa 0x2000000+2M

    See also: nept-check, nept-predict, nept-diff
    """
    only = None
    if args.vm is not None or args.vcpu is not None:
        chosen = context.session().pick(args.vm, args.vcpu)
        if chosen.vcpu.nested is not None and not chosen.vcpu.nested.vmxon:
            advice = "Without --vm and --vcpu a watch also sees one that enters it later."
            raise NoGuest(f"VM {chosen.vm}, vCPU {chosen.place} is not in VMX operation", advice)
        only = chosen.vcpu.address
    with context.running() as machine, written(args.json_lines) as file:
        watching = Watch(context.session, machine, args.model, only, args.follow, args.gpa)
        watching.prepare()
        log = FaultLog(None if args.json else context, file, args.no_color)
        ended = log.follow(watching, args.count or NO_LIMIT, args.until_mismatch)
    return watch_page(log.tally, watching.points, args.model, ended, watching.passed)
