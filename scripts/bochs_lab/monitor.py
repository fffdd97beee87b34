# SPDX-License-Identifier: GPL-2.0-or-later
"""What gdb's `monitor` gets: a few commands of QEMU's, in QEMU's form, and Bochs' own."""

from __future__ import annotations

from .live import ROMS, Live

HELP = """\
This is a Debian kernel with KVM in Bochs, which emulates VMX, behind the lab's gdb stub.
  info mtree -f   RAM and ROM of the machine, as QEMU shows them
  gpa2hva ADDRESS where RAM lies in the Bochs process, a child of the stub's
  info registers  the processor
  info status     whether it runs; at which park point it stands
  bochs COMMAND   a command of Bochs' debugger that only looks, as: bochs page 0xffffffff81000000
While a guest runs (info status says so) registers are the guest's, virtual addresses go through
its tables and EPT, and a breakpoint is a linear address in whichever of L0, L1 and L2 comes by it.
"""
LOOKING = (
    *("?", "calc", "crc", "creg", "dreg", "fp", "fpu", "help", "info", "mmx", "page"),
    *("print-stack", "ptime", "r", "reg", "regs", "registers", "sreg", "sse", "x", "xp"),
)
_GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_BASES = ("fs_base", "gs_base", "k_gs_base")
_CONTROL = (0, 2, 3, 4, 8)
_COLUMNS = 4


def answer(live: Live, text: str) -> str:
    """The output of a monitor command."""
    words = text.split()
    if words[:1] == ["bochs"]:
        return _bochs(live, words[1:])
    if words == ["info", "mtree", "-f"]:
        return _memory_tree(live)
    if words[:1] == ["gpa2hva"] and len(words) == 2:
        return _host_address(live, words[1])
    if words == ["info", "registers"]:
        return _registers(live)
    if words == ["info", "status"]:
        return _status(live)
    if words[:1] in (["help"], ["?"]):
        return HELP
    return f"unknown command: '{words[0]}'\n" if words else ""


def _bochs(live: Live, words: list[str]) -> str:
    if not words or words[0].partition("/")[0] not in LOOKING:
        return f"bochs takes only what changes nothing: {' '.join(LOOKING)}\n"
    return live.machine.bochs.command(" ".join(words))


def _memory_tree(live: Live) -> str:
    """As QEMU's `info mtree -f`: the one address space that matters."""
    parts = [(part, "ram", "ram0") for part, _ in live.machine.ram.runs()]
    parts += [(part, "rom", "bios") for part in ROMS]
    lines = ["FlatView #0", ' AS "memory", root: system', " Root memory region: system"]
    for part, kind, name in sorted(parts, key=lambda each: each[0].start):
        offset = f" @{part.start:016x}" if part.start and kind == "ram" else ""
        lines.append(f"  {part.start:016x}-{part.stop - 1:016x} (prio 0, {kind}): {name}{offset}")
    return "\n".join([*lines, "", ""])


def _host_address(live: Live, written: str) -> str:
    """As QEMU's `gpa2hva`; the address is one of the Bochs process, a child of the stub's."""
    try:
        address = int(written, 0)
    except ValueError:
        return f"no address: '{written}'\n"
    place = live.machine.ram.place(address)
    if place is None:
        return f"Memory at address {address:#x} is not RAM\n"
    return f"Host virtual address for {address:#x} (ram0) is {place:#x}\n"


def _registers(live: Live) -> str:
    value = live.cpu.value
    lines = ["CPU#0"]
    for start in range(0, len(_GENERAL), _COLUMNS):
        row = _GENERAL[start : start + _COLUMNS]
        lines.append(" ".join(f"{name.upper():3}={value(name):016x}" for name in row))
    lines.append(f"RIP={value('rip'):016x} RFL={value('eflags'):08x}")
    lines.append(" ".join(f"{name.upper()}={value(name):04x}" for name in _SEGMENTS))
    lines.append(" ".join(f"{name.upper()}={value(name):016x}" for name in _BASES))
    lines.append(" ".join(f"CR{number}={value(f'cr{number}'):x}" for number in _CONTROL))
    lines.append(f"EFER={value('efer'):016x}")
    return "\n".join([*lines, ""])


def _status(live: Live) -> str:
    park = live.machine.park
    where = f" at the park point {park}" if park else ""
    mode = "a guest of KVM" if live.cpu.in_guest else "L0"
    return f"VM status: paused{where}; the processor is in {mode}\n"
