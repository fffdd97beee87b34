# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-walk"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.commands.numbers import Usage, Written
from gdb_nept.commands.written import check_registers
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.nested.segments import linear_of
from gdb_nept.nested.virtual import virtual_walk
from gdb_nept.render.journey import journey_page
from gdb_nept.render.page import Page, Pages, page_for_each
from gdb_nept.render.virtual import virtual_page


@command(
    "nept-walk",
    argument("--virtual", action="store_true"),
    argument("--brief", action="store_true"),
    argument("--tables", action="store_true"),
    VM,
    VCPU,
    argument("--json-lines", action="store_true"),
    argument("addresses", type="logical", nargs="+", metavar="ADDRESS"),
)
def walk(context: Context, args: Namespace) -> Page | Pages:
    """Follow L2's address through every table to the host's memory.

    Usage: nept-walk [--virtual [--brief]] [--tables] [--vm N] [--vcpu N] [--limit N]
                     [--json | --json-lines] [--no-color] ADDRESS...

    ADDRESS is an L2 physical address: a number (0x1000, 4096, 4K), or in gdb an expression such
    as $a+8, in quotes if it has spaces.  Several are answered one after the other: --json has the
    list "walks" then, and --json-lines an object on a line for each, also for one alone.

    --virtual: ADDRESS is an L2 linear address, or SEG:OFFSET (a segment register's name, or of real
    mode a selector in hexadecimal).  L2's own tables translate it first, in whatever mode L2 is: a
    line for each of their entries, below the EPT12 entries that found it (--brief: without these),
    what both dimensions allow, how many memory references that takes with nothing cached, and then
    the journey of the L2 physical address.  With PAE paging L2 translates by the PDPTE registers;
    a warning says where memory differs from them.  Where L1 runs L2 without EPT, CR3 is that of
    L1's shadow of L2's tables, which is walked in L1 physical memory.

    --tables also shows, for each table of KVM's own, its kvm_mmu_page: which table of L1's it
    shadows, whether it is out of sync, and its role bit by bit.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.  One on which L2 is active, or
    the only one in VMX operation, is found without them.

    The address goes three ways, with a line for each entry read: through EPT12 (L1's tables), the
    memslot and the page tables of the VMM; through EPT02, KVM's shadow of EPT12; and from L1's
    physical address through EPT01.  The first line ends with the verdict, whether they agree, and
    the sentence below it tells what that means; "At fault" says who made a mistake: L1 (and what it
    forgot), KVM (and which of its functions should have caught it) or the VMM.  Without that line
    nobody did.

    EPT02 is the one of the EPTP that vmcs12 has now: if L1 has written another since it last
    entered L2, it is one that KVM keeps for it, or there is none yet.

    Where not all can be read (a filtered dump), each part is marked: "read", "missing", or
    "derived" from what KVM kept of EPT12 for its shadow, with rights that L1 grants at least.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-walk 0x7f3000
      (gdb) nept-walk 0x7f3000 0x7f4000 0x200000
      (gdb) nept-walk --virtual --brief 0xffffffff81000000 gs:0x10

    See also: nept-ept, nept-decode, nept-vms
    """
    session = context.session()
    chosen = session.pick(args.vm, args.vcpu)

    if args.brief and not args.virtual:
        raise Usage("--brief leaves out lines of --virtual", "Give both, or neither.")

    def walked(address: Written) -> Page:
        if address.segment:
            raise Usage(f"{address.segment}: is of a linear address", "Add --virtual.")
        return journey_page(session.journey(chosen, L2Phys(address)), args.tables)

    def virtual(address: Written) -> Page:
        check_registers(context, session, chosen, address.text)
        linear = L2Virt(address)
        if address.segment:
            registers = guest_registers(session, chosen)
            linear = linear_of(session, chosen, registers, address.segment, address)
        return virtual_page(virtual_walk(session, chosen, linear), args.brief, args.tables)

    answer = virtual if args.virtual else walked
    return page_for_each("walks", args.addresses, answer, listed=args.json_lines)
