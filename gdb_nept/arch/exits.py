# SPDX-License-Identifier: GPL-2.0-or-later
"""VM-exit reasons and the exit qualification of EPT violations.

SDM vol. 3, June 2026 (325384-092): reasons in appendix C, table 30-7 for the qualification.
"""

from __future__ import annotations

from typing import ClassVar

from gdb_nept.arch.bits import Word, bit, bits

TRIPLE_FAULT = 2
APIC_ACCESS = 44
EPT_VIOLATION = 48
EPT_MISCONFIGURATION = 49
PML_FULL = 62
SPP_EVENT = 66

EXIT_REASONS = {
    0: "exception or NMI",
    1: "external interrupt",
    TRIPLE_FAULT: "triple fault",
    3: "INIT signal",
    4: "start-up IPI",
    5: "I/O SMI",
    6: "other SMI",
    7: "interrupt window",
    8: "NMI window",
    9: "task switch",
    10: "CPUID",
    11: "GETSEC",
    12: "HLT",
    13: "INVD",
    14: "INVLPG",
    15: "RDPMC",
    16: "RDTSC",
    17: "RSM",
    18: "VMCALL",
    19: "VMCLEAR",
    20: "VMLAUNCH",
    21: "VMPTRLD",
    22: "VMPTRST",
    23: "VMREAD",
    24: "VMRESUME",
    25: "VMWRITE",
    26: "VMXOFF",
    27: "VMXON",
    28: "control-register access",
    29: "MOV DR",
    30: "I/O instruction",
    31: "RDMSR",
    32: "WRMSR",
    33: "VM-entry failure: invalid guest state",
    34: "VM-entry failure: MSR loading",
    36: "MWAIT",
    37: "monitor trap flag",
    39: "MONITOR",
    40: "PAUSE",
    41: "VM-entry failure: machine check",
    43: "TPR below threshold",
    APIC_ACCESS: "APIC access",
    45: "virtualized EOI",
    46: "GDTR or IDTR access",
    47: "LDTR or TR access",
    EPT_VIOLATION: "EPT violation",
    EPT_MISCONFIGURATION: "EPT misconfiguration",
    50: "INVEPT",
    51: "RDTSCP",
    52: "VMX-preemption timer expired",
    53: "INVVPID",
    54: "WBINVD or WBNOINVD",
    55: "XSETBV",
    56: "APIC write",
    57: "RDRAND",
    58: "INVPCID",
    59: "VMFUNC",
    60: "ENCLS",
    61: "RDSEED",
    PML_FULL: "page-modification log full",
    63: "XSAVES",
    64: "XRSTORS",
    65: "PCONFIG",
    SPP_EVENT: "SPP-related event",
    67: "UMWAIT",
    68: "TPAUSE",
    69: "LOADIWKEY",
    70: "ENCLV",
    72: "ENQCMD PASID translation failure",
    73: "ENQCMDS PASID translation failure",
    74: "bus lock",
    75: "instruction timeout",
    76: "SEAMCALL",
    77: "TDCALL",
    78: "RDMSRLIST",
    79: "WRMSRLIST",
    80: "URDMSR",
    81: "UWRMSR",
    84: "RDMSR with immediate",
    85: "WRMSRNS with immediate",
}


ENTRY_FAILURES = (33, 34, 41)  # the reasons that are no exits of a guest (29.8)


class ExitReason(Word):
    """VMCS field 4402H (27.9.1)."""

    title = "exit reason"
    zero_says = ("basic",)

    basic = bits(15, 0, "basic exit reason")
    shadow_stack_busy = bit(25, "a supervisor shadow stack was prematurely busy")
    bus_lock = bit(26, "a bus lock was asserted before the exit")
    enclave = bit(27, "in enclave mode")
    pending_mtf = bit(28, "pending MTF VM exit")
    from_root = bit(29, "VM exit from VMX root operation")
    entry_failure = bit(31, "VM-entry failure")

    @property
    def name(self) -> str:
        return EXIT_REASONS.get(self.basic, f"unknown reason {self.basic}")

    @property
    def problem(self) -> str:
        """Why bit 31 does not go with the reason (29.8), or ''; the basic reason alone may be all
        that was noted down."""
        if not self.entry_failure or self.basic in ENTRY_FAILURES:
            return ""
        known = ", ".join(map(str, ENTRY_FAILURES))
        return f"bit 31 says that VM entry failed, which has the reasons {known} alone"


class EptViolation(Word):
    """Exit qualification of an EPT violation (table 30-7)."""

    title = "exit qualification of an EPT violation"

    read = bit(0, "the access was a data read")
    write = bit(1, "the access was a data write")
    fetch = bit(2, "the access was an instruction fetch")
    readable = bit(3, "every entry used allows reads")
    writable = bit(4, "every entry used allows writes")
    executable = bit(5, "every entry used allows execution (supervisor, if MBEC)")
    user_executable = bit(6, "every entry used allows user execution; undefined without MBEC")
    linear_valid = bit(7, "the guest-linear address is valid")
    translated = bit(8, "the access was to the translation of that linear address, not a page walk")
    user_linear = bit(9, "the linear address is a user-mode one, if advanced information")
    writable_linear = bit(10, "the linear address is writable, if advanced information")
    execute_disable_linear = bit(11, "the linear address is execute-disable, if advanced info")
    nmi_unblocking = bit(12, "NMI unblocking due to IRET")
    shadow_stack_access = bit(13, "the access was a shadow-stack access")
    supervisor_shadow_stack = bit(14, "bit 60 of the leaf, if EPTP bit 7")
    guest_paging = bit(15, "caused by guest-paging verification")
    asynchronous = bit(16, "asynchronous to instruction execution")


class ApicAccess(Word):
    """Exit qualification of an APIC-access exit (table "Exit Qualification for APIC-Access VM Exits
    from Linear Accesses and Guest-Physical Accesses")."""

    title = "exit qualification of an APIC access"
    zero_says = ("kind",)

    offset = bits(11, 0, "offset in the APIC-access page, of a linear access")
    kind = bits(
        15,
        12,
        "linear: 0 read, 1 write, 2 fetch, 3 during event delivery, 4 monitoring; guest-physical: "
        "10 during event delivery, 11 monitoring or trace, 15 else",
    )
    asynchronous = bit(16, "asynchronous to instruction execution")

    LINEAR: ClassVar[dict[int, str]] = {
        0: "a data read",
        1: "a data write",
        2: "an instruction fetch",
        3: "an access during event delivery",
        4: "an access for monitoring",
    }
    PHYSICAL: ClassVar[dict[int, str]] = {
        10: "a guest-physical access during event delivery",
        11: "a guest-physical access for monitoring or trace",
        15: "a guest-physical access for an instruction, or its fetch",
    }

    @property
    def defined(self) -> bool:
        return self.kind in self.LINEAR or self.kind in self.PHYSICAL

    @property
    def says(self) -> str:
        """The kind of access, with its offset where that is defined."""
        if self.kind in self.LINEAR:
            return f"{self.LINEAR[self.kind]} at offset {self.offset:#x} of the APIC-access page"
        return self.PHYSICAL.get(self.kind, "an access of no possible kind")
