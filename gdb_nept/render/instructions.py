# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions in words, by capstone where it is installed."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_nept.errors import NeptError


class NoDisassembler(NeptError):
    """capstone is not there."""

    def __init__(self) -> None:
        super().__init__(
            "instructions need the Python package capstone",
            "pip install capstone, or Debian's python3-capstone, for the Python that runs this.",
        )


def instructions(data: bytes, address: int, bits: int) -> Iterator[tuple[int, str]]:
    """(offset, text) of the instructions in `data`, which lies at `address`; `bits`: 16, 32 or 64.
    Raises NoDisassembler."""
    try:
        import capstone
    except ImportError:
        raise NoDisassembler from None
    modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
    reader = capstone.Cs(capstone.CS_ARCH_X86, modes[bits])
    for found in reader.disasm(data, address):
        yield found.address - address, f"{found.mnemonic} {found.op_str}".rstrip()
