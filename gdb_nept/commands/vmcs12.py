# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-vmcs12"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from gdb_nept.commands.arguments import VCPU, VM, argument
from gdb_nept.commands.command import command
from gdb_nept.commands.context import Context
from gdb_nept.errors import BadInput, MemoryUnreadable
from gdb_nept.kvm.vmcs12 import Field, Vmcs12
from gdb_nept.kvm.vmcs12_layout import built_in
from gdb_nept.near import advised
from gdb_nept.render.page import Page
from gdb_nept.render.vmcs12 import unread_page, vmcs12_page

#: What the SDM calls some fields in its text, and KVM does not.
SHORT = {"eptp": "ept_pointer", "vpid": "virtual_processor_id", "pml": "pml_address"}


def field_names(word: str) -> list[str]:
    return [field.name for field in built_in().fields]


@command(
    "nept-vmcs12",
    argument("--all", action="store_true"),
    VM,
    VCPU,
    argument("fields", nargs="*", metavar="FIELD", complete=field_names),
)
def vmcs12(context: Context, args: Namespace) -> Page:
    """Show vmcs12, the VMCS that L1 made for L2, and what is stale.

    Usage: nept-vmcs12 [--all] [--vm N] [--vcpu N] [--limit N] [--json] [--no-color] [FIELD...]

    FIELD is a field's name, KVM's (ept_pointer) or the SDM's ("EPT pointer", EPTP), the beginning
    of KVM's (guest_cr), or its encoding (0x201a).  Control words, EPTP and exit reason are then
    decoded bit by bit.  Without FIELD all fields are shown, in the groups of the SDM.

    --vm N and --vcpu N choose a vCPU by its numbers in nept-vms.  One on which L2 is active, or
    the only one in VMX operation, is found without them.

    The fields of a group stand together by their authority: whether the value in KVM's cache is the
    true one just now, and why.  Of L2's registers it follows the controls in force: EFER, say, is
    L2's only if L1 has it loaded at VM entry or saved at an exit.  --all shows also those that
    are 0.

    Of a dump that kdump or a hypervisor below the host took, notes tell which copy to believe:
    kdump clears the loaded VMCSs first, so that vmcs02 is whole in memory; KVM's vmcs12 and the
    page in L1's memory get nothing of that.

    --limit N lets it look at N/16 fields of the kernel's structures, where the 262144 that it looks
    at are not enough; what was not looked at is told.

    Examples:
      (gdb) nept-vmcs12
      (gdb) nept-vmcs12 ept_pointer exit_qualification guest_cr

    See also: nept-vms, nept-ept, nept-decode
    """
    session = context.session()
    vcpu = session.pick(args.vm, args.vcpu)
    try:
        found = session.vmcs12(vcpu)
    except MemoryUnreadable as error:
        if vcpu.vcpu.nested is None:
            raise
        return unread_page(vcpu.vcpu.nested, error, context.taken.vmcss)
    fields = chosen(found, args.fields) if args.fields else None
    return vmcs12_page(found, fields, args.all, context.taken.vmcss)


def chosen(found: Vmcs12, wanted: Sequence[str]) -> tuple[Field, ...]:
    """The fields by name, beginning of a name, or encoding; raises BadInput."""
    fields: dict[str, Field] = {}
    for name in wanted:
        exact = found.find(SHORT.get(name.lower(), name))
        matching = [exact] if exact else [f for f in found.fields if f.name.startswith(name)]
        if not matching:
            names = [known for field in found.fields for known in (field.name, field.sdm_name)]
            advice = advised(name, names, "nept-vmcs12 shows all of them.")
            raise BadInput(f"vmcs12 has no field '{name}'", advice)
        fields.update({field.name: field for field in matching})
    return tuple(fields.values())
