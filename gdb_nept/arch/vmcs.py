# SPDX-License-Identifier: GPL-2.0-or-later
"""VMCS fields: what their encodings say, and the names of all that L1 may use.

SDM vol. 3, June 2026 (325384-092): the encoding in table 27-22 (27.11.2), the fields in appendix B.
Chapter 27 names those of APIC-timer virtualization and of IA32_SPEC_CTRL, too; their encodings are
from Bochs (bochs/cpu/vmx.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from gdb_nept.arch.bits import Word, bit, bits

WIDTHS = ("16-bit", "64-bit", "32-bit", "natural-width")
SIZES = (2, 8, 4, 8)  # bytes, on a 64-bit processor
TYPES = ("control", "read-only data", "guest state", "host state")


class Encoding(Word):
    """The operand of VMREAD and VMWRITE that names a field."""

    title = "VMCS field encoding"
    zero_says = ("high_half", "index", "type", "width")

    high_half = bit(0, "access type: the high 32 bits of a 64-bit field", "high")
    index = bits(9, 1, "index among the fields of its width and type")
    type = bits(11, 10, "0 control, 1 read-only data, 2 guest state, 3 host state")
    width = bits(14, 13, "0 16-bit, 1 64-bit, 2 32-bit, 3 natural-width")

    @property
    def size(self) -> int:
        """Bytes that one access moves."""
        return 4 if self.high_half else SIZES[self.width]

    @property
    def width_name(self) -> str:
        return WIDTHS[self.width]

    @property
    def type_name(self) -> str:
        return TYPES[self.type]

    @property
    def problem(self) -> str:
        """Why no field can have this encoding (27.11.2), or ''."""
        reserved = self.value & ~sum(field.mask for field in self.fields())
        if reserved:
            return f"reserved bits are set: {reserved:#x}"
        if self.high_half and self.width_name != "64-bit":
            return f"bit 0 asks for the high half of a {self.width_name} field: it has none"
        return ""


@dataclass(frozen=True)
class Run:
    """Fields with consecutive encodings, beginning at `first`."""

    first: int
    names: tuple[str, ...]


def _run(first: int, text: str) -> Run:
    return Run(first, tuple(name.strip() for name in text.split(",")))


def _each(text: str, *names: str) -> str:
    return ", ".join(text.format(name) for name in names)


SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")
HOST_SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS", "TR")
FRED = ("CONFIG", "RSP1", "RSP2", "RSP3", "STKLVLS", "SSP1", "SSP2", "SSP3")

RUNS = (
    # B.1: 16-bit fields
    _run(0x0000, "VPID, posted-interrupt notification vector, EPTP index, HLAT prefix size"),
    _run(0x0008, "last PID-pointer index, virtual timer vector"),
    _run(0x0800, _each("guest {} selector", *SEGMENTS)),
    _run(0x0810, "guest interrupt status, PML index, guest UINV"),
    _run(0x0C00, _each("host {} selector", *HOST_SEGMENTS)),
    # B.2: 64-bit fields
    _run(0x2000, "address of I/O bitmap A, address of I/O bitmap B, address of MSR bitmaps"),
    _run(0x2006, "VM-exit MSR-store address, VM-exit MSR-load address, VM-entry MSR-load address"),
    _run(0x200C, "executive-VMCS pointer, PML address, TSC offset, virtual-APIC address"),
    _run(0x2014, "APIC-access address, posted-interrupt descriptor address, VM-function controls"),
    _run(0x201A, "EPT pointer"),
    _run(0x201C, _each("EOI-exit bitmap {}", "0", "1", "2", "3")),
    _run(0x2024, "EPTP-list address, VMREAD-bitmap address, VMWRITE-bitmap address"),
    _run(0x202A, "virtualization-exception information address, XSS-exiting bitmap"),
    _run(0x202E, "ENCLS-exiting bitmap, sub-page-permission-table pointer, TSC multiplier"),
    _run(0x2034, "tertiary processor-based VM-execution controls, ENCLV-exiting bitmap"),
    _run(0x2038, "low PASID directory address, high PASID directory address"),
    _run(0x203C, "SEAM shared EPT pointer, PCONFIG-exiting bitmap, HLAT pointer (HLATP)"),
    _run(0x2042, "PID-pointer table address, secondary VM-exit controls"),
    _run(0x204A, "IA32_SPEC_CTRL mask, IA32_SPEC_CTRL shadow, guest deadline shadow"),
    _run(0x2052, "injected-event data"),
    _run(0x2400, "guest-physical address, MSR data, original-event data"),
    _run(0x2800, "VMCS link pointer, guest IA32_DEBUGCTL, guest IA32_PAT, guest IA32_EFER"),
    _run(0x2808, "guest IA32_PERF_GLOBAL_CTRL"),
    _run(0x280A, _each("guest PDPTE{}", "0", "1", "2", "3")),
    _run(0x2812, "guest IA32_BNDCFGS, guest IA32_RTIT_CTL, guest IA32_LBR_CTL, guest IA32_PKRS"),
    _run(0x281A, _each("guest IA32_FRED_{}", *FRED)),
    _run(0x282E, "guest IA32_SPEC_CTRL, guest deadline"),
    _run(0x2C00, "host IA32_PAT, host IA32_EFER, host IA32_PERF_GLOBAL_CTRL, host IA32_PKRS"),
    _run(0x2C08, _each("host IA32_FRED_{}", *FRED)),
    _run(0x2C1A, "host IA32_SPEC_CTRL"),
    # B.3: 32-bit fields
    _run(0x4000, "pin-based VM-execution controls"),
    _run(0x4002, "primary processor-based VM-execution controls, exception bitmap"),
    _run(0x4006, "page-fault error-code mask, page-fault error-code match, CR3-target count"),
    _run(0x400C, "primary VM-exit controls, VM-exit MSR-store count, VM-exit MSR-load count"),
    _run(0x4012, "VM-entry controls, VM-entry MSR-load count, VM-entry interruption information"),
    _run(0x4018, "VM-entry exception error code, VM-entry instruction length, TPR threshold"),
    _run(0x401E, "secondary processor-based VM-execution controls, PLE_Gap, PLE_Window"),
    _run(0x4024, "instruction-timeout control, SEAM-guest KeyID"),
    _run(0x4400, "VM-instruction error, exit reason, VM-exit interruption information"),
    _run(0x4406, "VM-exit interruption error code, IDT-vectoring information"),
    _run(0x440A, "IDT-vectoring error code, VM-exit instruction length"),
    _run(0x440E, "VM-exit instruction information"),
    _run(0x4800, _each("guest {} limit", *SEGMENTS, "GDTR", "IDTR")),
    _run(0x4814, _each("guest {} access rights", *SEGMENTS)),
    _run(0x4824, "guest interruptibility state, guest activity state, guest SMBASE"),
    _run(0x482A, "guest IA32_SYSENTER_CS"),
    _run(0x482E, "VMX-preemption timer value"),
    _run(0x4C00, "host IA32_SYSENTER_CS"),
    # B.4: natural-width fields
    _run(0x6000, "CR0 guest/host mask, CR4 guest/host mask, CR0 read shadow, CR4 read shadow"),
    _run(0x6008, _each("CR3-target value {}", "0", "1", "2", "3")),
    _run(0x6400, "exit qualification, I/O RCX, I/O RSI, I/O RDI, I/O RIP, guest-linear address"),
    _run(0x6800, "guest CR0, guest CR3, guest CR4"),
    _run(0x6806, _each("guest {} base", *SEGMENTS, "GDTR", "IDTR")),
    _run(0x681A, "guest DR7, guest RSP, guest RIP, guest RFLAGS, guest pending debug exceptions"),
    _run(0x6824, "guest IA32_SYSENTER_ESP, guest IA32_SYSENTER_EIP, guest IA32_S_CET, guest SSP"),
    _run(0x682C, "guest IA32_INTERRUPT_SSP_TABLE_ADDR"),
    _run(0x6C00, "host CR0, host CR3, host CR4, host FS base, host GS base, host TR base"),
    _run(0x6C0C, "host GDTR base, host IDTR base, host IA32_SYSENTER_ESP, host IA32_SYSENTER_EIP"),
    _run(0x6C14, "host RSP, host RIP, host IA32_S_CET, host SSP"),
    _run(0x6C1C, "host IA32_INTERRUPT_SSP_TABLE_ADDR"),
)


@cache
def field_names() -> dict[int, str]:
    """Encoding -> name, of every field of appendix B."""
    return {run.first + 2 * place: name for run in RUNS for place, name in enumerate(run.names)}


def field_name(encoding: int) -> str:
    """The SDM's name of the field; of an unknown one, what its encoding says."""
    word = Encoding(encoding)
    name = field_names().get(encoding & ~Encoding.high_half.mask)
    if name is None:
        return f"{word.width_name} {word.type_name} field {word.index}"
    return f"{name} (high 32 bits)" if word.high_half else name
