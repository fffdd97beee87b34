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


NO_TEXT = b"\xff\xfe\x80\xc3".hex()  # a monitor's reply is in hexadecimal
OURS = ("m", "qqemu", "Qqemu", "qRcmd")


def test_a_monitor_that_answers_with_no_text_is_as_none(gdb: Gdb, firmware: Address) -> None:
    """gdb itself fails to make a string of it."""

    def no_text(packet: str) -> str | None:
        return NO_TEXT if packet.startswith("qRcmd") else None

    ask = 'python print("said", repr(stub.GdbStub().monitor("info mtree -f")))'
    with Relay(firmware, instead=no_text) as relay:
        output = gdb(attach(relay), "python from gdb_nept.target.gdb import stub", ask)
    assert any(packet.startswith("qRcmd") for packet in relay.packets)
    assert "said ''" in output
    assert "Error" not in output


class Half:
    """Every second packet of ours is answered with an error, with zeros, or with ones."""

    def __init__(self, answer: str) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self, packet: str) -> str | None:
        if not packet.startswith(OURS):
            return None
        self.asked += 1
        if self.asked % 2:
            return None
        if packet.startswith("m") and self.answer != "E01":
            return self.answer * int(packet.rpartition(",")[2], 16)
        return "E01"


@pytest.mark.parametrize("answer", ["E01", "00", "ff"])
def test_half_of_the_answers_wrong_and_no_search_begins_again(
    gdb: Gdb, firmware: Address, answer: str
) -> None:
    """The bound is in packets: memory has 4 MiB."""
    ask = ("nept-vms", "nept-ept", "nept-walk 0x1000", "nept-check", "nept-regs", "nept-target")
    counts = []
    for commands in (ask[:1], ask):
        with Relay(firmware, instead=Half(answer)) as relay:
            output = gdb(BY_MODE, attach(relay), *commands, "nept-decode exit-reason 48")
        assert "Traceback" not in output
        assert "EPT violation" in output
        counts.append(len(relay.packets))
        with Relay(firmware) as sound:  # for the test after this
            gdb(attach(sound), "maint packet Qqemu.PhyMemMode:0")
    assert counts[1] < 2 * counts[0] + 200
