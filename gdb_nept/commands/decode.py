# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-decode"""

from __future__ import annotations

from argparse import Namespace
from typing import Callable

from gdb_nept.arch import ept
from gdb_nept.arch.words import WORDS
from gdb_nept.commands.arguments import VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.commands.numbers import Usage
from gdb_nept.kvm.spte import decode_spte
from gdb_nept.kvm.spte_format import spte_format
from gdb_nept.nested.choice import vm_at
from gdb_nept.render.meaning import meaning, problem
from gdb_nept.render.page import Page, Pages, page_for_each
from gdb_nept.render.word import spte_page, word_page

WITH_ADDRESS = ("eptp", "ept", "paging")  # the words that MAXPHYADDR bounds


@command(
    "nept-decode",
    argument("--level", type=int, choices=(1, 2, 3, 4, 5), default=1),
    argument("--maxphyaddr", type="width", metavar="BITS"),
    argument("--all", action="store_true"),
    VM,
    argument("kind", choices=(*WORDS, "spte"), metavar="KIND"),
    argument("values", type="address", nargs="+", metavar="VALUE"),
)
def decode(context: Context, args: Namespace) -> Page | Pages:
    """Decode a word bit by bit.

    Usage: nept-decode [--level N] [--maxphyaddr BITS] [--all] [--vm N] [--limit N] [--json]
                       [--no-color] KIND VALUE...

    KIND is one of: eptp; ept (an entry of any EPT table); spte (such an entry as this host's KVM
    means it); paging (an entry of the processor's own page tables); qualification (of an EPT
    violation); apic-access (the qualification of an APIC-access exit); exit-reason; pin-controls,
    primary-controls, secondary-controls, tertiary-controls, exit-controls,
    secondary-exit-controls, entry-controls; ept-vpid-cap (MSR 48CH); field (the encoding of a VMCS
    field).

    VALUE is a number, or in gdb an expression.  Several are decoded one after the other; --json
    has the list "words" then.

    --level N is the level at which an entry was found: 1 (a PTE, the default) to 5.

    --maxphyaddr BITS is the processor's physical-address width, 32 to 52 (if not given), above
    which bits of an eptp, ept or paging word are reserved.

    --all shows the bits that are 0, too.

    --vm N is the VM of an spte (0 if not given).  All but spte need no target.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-decode ept 0x6 --level 1
      (gdb) nept-decode qualification 0x181

    See also: nept-walk, nept-vmcs12
    """
    if args.maxphyaddr is not None and args.kind not in WITH_ADDRESS:
        advice = f"It is for {', '.join(WITH_ADDRESS)}."
        raise Usage(f"--maxphyaddr says nothing about '{args.kind}'", advice)
    decoded = _of_kvm(context, args) if args.kind == "spte" else _of_the_machine(args)
    return page_for_each("words", args.values, decoded)


def _of_kvm(context: Context, args: Namespace) -> Callable[[int], Page]:
    session = context.session()
    form = spte_format(session.kernel, vm_at(session.vms(), args.vm or 0).value)
    return lambda value: spte_page(decode_spte(value, args.level, form), form.name, form.notes)


def _of_the_machine(args: Namespace) -> Callable[[int], Page]:
    def decoded(value: int) -> Page:
        word = WORDS[args.kind](value)
        wrong = problem(word, args.level, args.maxphyaddr or ept.WIDEST)
        said = meaning(word, args.level, bool(wrong))
        return word_page(args.kind, word, said, wrong, args.all)

    return decoded
