# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-scan"""

from __future__ import annotations

from argparse import Namespace

from gdb_nept.commands.arguments import argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.errors import NeptError
from gdb_nept.kvm.vmcs12_scan import Vmcs12Page, vmcs12_pages
from gdb_nept.memory.budget import NotLookedAt, charge, tell
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.vmcs12_owners import owners
from gdb_nept.render.page import Page
from gdb_nept.render.scan import scan_page

FIELDS_A_PAGE = 16


@command("nept-scan", argument("range", nargs="?", type="range", metavar="RANGE"))
def scan(context: Context, args: Namespace) -> Page:
    """Find vmcs12 pages in memory by their content, current or not.

    Usage: nept-scan [--limit N] [--json] [--no-color] [RANGE]

    RANGE, of host physical addresses, is LOW..HIGH (HIGH not included), LOW+SIZE, or one address
    for its page.  Without it all memory is read, which takes long through a stub.

    No symbols and no types are needed: where there is no kernel, or none that can be decoded, the
    pages are found all the same.  Each begins with the revision identifier of KVM's vmcs12: it is a
    vmcs12 in the memory of an L1, KVM's copy of one, or a VMXON region.  L1 may have given it up
    long ago, or have ended.  What no vmcs12 that L1 has entered could hold makes it doubtful.

    Where the kernel is known, the pages that a vCPU uses just now say so.

    Where the host is itself a guest of KVM, the VMCSs that it runs its VMs with are among them.

    Memory that cannot be read is passed over, as are pages that a dump leaves out; how much that
    is, is told, and the exit status then is 5.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-scan
      (gdb) nept-scan 0x6000000+16M

    See also: nept-vmcs12, nept-vms
    """
    memory, ranges, left_out = context.physical()
    if args.range is not None:
        ranges, left_out = [range(*args.range)], 0
    found: list[Vmcs12Page] = []
    unread: list[range] = []
    try:
        for page in vmcs12_pages(memory, ranges, tell, unread):
            charge(page.place, PAGE_SIZE, FIELDS_A_PAGE)  # a guest may fill its memory with them
            found.append(page)
    except NotLookedAt:
        pass  # the command says so
    passed = left_out + sum(map(len, unread))
    try:
        return scan_page(found, owners(context.session()), passed)
    except NeptError as error:
        return scan_page(found, {}, passed, error.message)
