# SPDX-License-Identifier: GPL-2.0-or-later
"""A stub that refuses, lies, or answers with what is no text: gdb's user is told, and goes on."""

from __future__ import annotations

from typing import Callable

import pytest

from tests.gdb.relay import Relay

pytestmark = [pytest.mark.gdb, pytest.mark.qemu]

BY_MODE = "set nept memory phymem"
MODE = "maint packet qqemu.PhyMemMode"
BACK = "Qqemu.PhyMemMode:0"
Gdb = Callable[..., str]
Address = tuple[str, int]


class Refusing:
    """Answers a packet with an error, so many times."""

    def __init__(self, packet: str, times: int) -> None:
        self.packet, self.times = packet, times

    def __call__(self, packet: str) -> str | None:
        if packet != self.packet or not self.times:
            return None
        self.times -= 1
        return "E01"


def attach(relay: Relay) -> str:
    return f"target remote 127.0.0.1:{relay.port}"


def test_a_mode_that_is_not_put_back_is_told_and_tried_again(gdb: Gdb, firmware: Address) -> None:
    with Relay(firmware, instead=Refusing(BACK, 5)) as relay:
        output = gdb(BY_MODE, attach(relay), "nept-vms", MODE, "nept-decode exit-reason 48", MODE)
    words = " ".join(output.split())
    first, _, second = words.partition("EPT violation")
    assert "warning: the stub is left in physical memory mode" in first
    assert 'received: "1"' in first
    assert 'received: "0"' in second
    assert "warning" not in second
    assert relay.packets.count(BACK) == 6


def test_it_is_told_at_the_end_too(gdb: Gdb, firmware: Address) -> None:
    with Relay(firmware, instead=Refusing(BACK, 1000)) as relay:
        output = " ".join(gdb(BY_MODE, attach(relay), "nept-vms", "echo the end\\n").split())
        after = gdb(attach(relay), "maint packet Qqemu.PhyMemMode:0")
    told = output.partition("the end")[2]
    assert "warning: the stub is left in physical memory mode" in told
    assert after


def test_a_mode_that_another_left_is_told_once(gdb: Gdb, firmware: Address) -> None:
    with Relay(firmware) as relay:
        output = gdb(
            BY_MODE,
            attach(relay),
            "maint packet Qqemu.PhyMemMode:1",
            "nept-vms",
            "nept-vms",
            "nept-target",
            "maint packet Qqemu.PhyMemMode:0",
        )
    words = " ".join(output.split())
    assert words.count("warning: the stub was in physical memory mode before us") == 1
    assert words.count("as a gdb that was killed leaves it") == 2, "nept-target has it, too"
