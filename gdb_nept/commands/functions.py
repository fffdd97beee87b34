# SPDX-License-Identifier: GPL-2.0-or-later
"""The convenience functions in gdb: print $nept_l2_reg("rip"), x/8gx $nept_l2v($a) and the like."""

from __future__ import annotations

from typing import Callable, Union

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.errors import BadInput
from gdb_nept.nested import at_hand
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session

Asked = Union[int, str]
Ask = Callable[[Session, Chosen, Asked], int]


def _number(asked: Asked) -> int:
    if isinstance(asked, str):
        raise BadInput(f"'{asked}' is no address", "Give a number.")
    return asked


def _name(asked: Asked) -> str:
    if isinstance(asked, int):
        raise BadInput(f"{asked:#x} is no name", 'Give a name in quotes, as "rip".')
    return asked


#: The name, the manual, and who answers.
FUNCTIONS: tuple[tuple[str, str, Ask], ...] = (
    (
        "nept_l2v",
        "$nept_l2v(ADDRESS): the host physical address behind an L2 linear address.",
        lambda session, chosen, asked: at_hand.host_of_l2_linear(
            session, chosen, L2Virt(_number(asked))
        ),
    ),
    (
        "nept_l2p",
        "$nept_l2p(ADDRESS): the host physical address behind an L2 physical address.",
        lambda session, chosen, asked: at_hand.host_of_l2(session, chosen, L2Phys(_number(asked))),
    ),
    (
        "nept_l1",
        "$nept_l1(ADDRESS): the host physical address behind an L1 physical address.",
        lambda session, chosen, asked: at_hand.host_of_vcpu(
            session, chosen, L1Phys(_number(asked))
        ),
    ),
    (
        "nept_vmcs12",
        '$nept_vmcs12("FIELD"): a field of vmcs12, as nept-vmcs12 names it.',
        lambda session, chosen, asked: at_hand.vmcs12_field(session, chosen, _name(asked)),
    ),
    (
        "nept_l2_reg",
        '$nept_l2_reg("NAME"): a register of L2\'s, as nept-regs has it.',
        lambda session, chosen, asked: at_hand.l2_register(session, chosen, _name(asked)),
    ),
)
