# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-decode"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.arch import controls, cpu, ept, exits, paging, vmcs
from gdb_nept.arch.bits import Word
from gdb_nept.commands.command import VM, Context, argument, command
from gdb_nept.kvm.spte import decode_spte
from gdb_nept.kvm.spte_format import spte_format
from gdb_nept.kvm.vm import vm_at
from gdb_nept.render.meaning import meaning, problem
from gdb_nept.render.page import Page
from gdb_nept.render.word import spte_page, word_page

WORDS: dict[str, type[Word]] = {
    "eptp": ept.Eptp,
    "ept": ept.EptEntry,
    "qualification": exits.EptViolation,
    "exit-reason": exits.ExitReason,
    "pin-controls": controls.PinControls,
    "primary-controls": controls.PrimaryControls,
    "secondary-controls": controls.SecondaryControls,
    "exit-controls": controls.ExitControls,
    "entry-controls": controls.EntryControls,
    "ept-vpid-cap": cpu.EptVpidCap,
    "field": vmcs.Encoding,
    "paging": paging.Entry,
}


@command(
    "nept-decode",
    argument("--level", type=int, choices=(1, 2, 3, 4, 5), default=1),
    argument("--maxphyaddr", type="address", default=52, metavar="BITS"),
    argument("--all", action="store_true"),
    VM,
    argument("kind", choices=(*WORDS, "spte"), metavar="KIND"),
    argument("value", type="address", metavar="VALUE"),
)
def decode(context: Context, args: Namespace) -> Page:
    """Decode a word bit by bit.

    Usage: nept-decode [--level N] [--maxphyaddr BITS] [--all] [--vm N] [--json] [--no-color]
                       KIND VALUE

    KIND is one of: eptp; ept (an entry of any EPT table); spte (such an entry as this host's KVM
    means it); paging (an entry of the processor's own page tables); qualification (of an EPT
    violation); exit-reason; pin-controls, primary-controls, secondary-controls, exit-controls,
    entry-controls; ept-vpid-cap (MSR 48CH); field (the encoding of a VMCS field).

    VALUE is a number, or an expression of gdb's.

    --level N is the level at which an entry was found: 1 (a PTE, the default) to 5.

    --maxphyaddr BITS is the processor's physical-address width, above which bits are reserved.

    --all shows the bits that are 0, too.

    --vm N is the VM of an spte (0 if not given).  All but spte need no target.

    Examples:
      (gdb) nept-decode ept 0x6 --level 1
      (gdb) nept-decode qualification 0x181

    See also: nept-walk, nept-vmcs12
    """
    if args.kind == "spte":
        session = context.session()
        form = spte_format(session.kernel, vm_at(session.vms(), args.vm or 0).value)
        return spte_page(decode_spte(args.value, args.level, form), form.name)
    word = WORDS[args.kind](args.value)
    wrong = problem(word, args.level, args.maxphyaddr)
    return word_page(args.kind, word, meaning(word, args.level), wrong, args.all)
