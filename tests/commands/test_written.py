# SPDX-License-Identifier: GPL-2.0-or-later
"""Which registers an expression of gdb's names."""

from __future__ import annotations

import pytest

from gdb_nept.commands.written import registers_in


@pytest.mark.parametrize(
    ("written", "registers"),
    [
        ("0x1000", ()),
        ("$a+8", ()),
        ("$_siginfo", ()),
        ("$r16", ()),
        ("$rsp", ("rsp",)),
        ("$sp+8", ("rsp",)),
        ("$esp", ("rsp",)),
        ("*(long *)($rbp-8)", ("rbp",)),
        ("$pc", ("rip",)),
        ("$eip + $rip", ("rip",)),
        ("$fp", ("rbp",)),
        ("$r10d", ("r10",)),
        ("$al", ("rax",)),
        ("$sil", ("rsi",)),
        ("$CR3", ("cr3",)),
        ("$fs_base + $rdi*2", ("fs_base", "rdi")),
    ],
)
def test_registers_in_an_expression(written: str, registers: tuple[str, ...]) -> None:
    assert registers_in(written) == registers
