# SPDX-License-Identifier: GPL-2.0-or-later
"""nept on the lab's memories: several addresses at once, and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdb_nept.__main__ import main
from gdb_nept.memory.budget import ENTRIES, Budget
from gdb_nept.nested.epts import Which
from gdb_nept.nested.listing import listing
from gdb_nept.render.ept import ept_page
from gdb_nept.render.page import Status, gravest
from gdb_nept.render.text import draw
from tests.overlay import opened

pytestmark = pytest.mark.bochs

ADDRESSES = ("0x2000000", "0x2806000", "0x7fffffff000")


def asked(capsys: pytest.CaptureFixture[str], snapshot: Path, *words: str) -> tuple[int, str]:
    status = main(["--dump", str(snapshot / "memory.raw"), *words])
    found = capsys.readouterr()
    assert found.err == ""
    return status, found.out


def test_several_addresses_are_each_alone(
    capsys: pytest.CaptureFixture[str], plain_snapshot: Path
) -> None:
    for command in (("walk",), ("predict", "--write"), ("predict", "--linear")):
        alone = [asked(capsys, plain_snapshot, *command, one) for one in ADDRESSES]
        together = asked(capsys, plain_snapshot, *command, *ADDRESSES)
        assert together == (0, "\n".join(shown for _, shown in alone))


def test_a_watch_of_a_vcpu_that_no_exit_can_come_to_is_refused(
    capsys: pytest.CaptureFixture[str], plain_snapshot: Path
) -> None:
    """It would wait for ever."""
    watched = ["--dump", str(plain_snapshot / "memory.raw"), "watch", "--vm", "2", "--vcpu"]
    assert main([*watched, "1"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "VM 2, vCPU 1 is not in VMX operation" in said
    assert "Without --vm and --vcpu a watch also sees one that enters it later" in said


def test_what_l1_has_by_itself_is_shown_of_a_vm_without_l2(
    capsys: pytest.CaptureFixture[str], plain_snapshot: Path
) -> None:
    assert asked(capsys, plain_snapshot, "ept", "--l1", "--vm", "2")[1].startswith(
        "EPT01 of VM 2, vCPU 0: "
    )
    assert asked(capsys, plain_snapshot, "x", "--l1", "--vm", "2", "0")[1].startswith("0x")


def test_several_walks_as_json(capsys: pytest.CaptureFixture[str], plain_snapshot: Path) -> None:
    alone = [
        json.loads(asked(capsys, plain_snapshot, "walk", "--json", one)[1]) for one in ADDRESSES
    ]
    _, whole = asked(capsys, plain_snapshot, "walk", "--json", *ADDRESSES)
    assert json.loads(whole)["walks"] == alone
    _, lines = asked(capsys, plain_snapshot, "walk", "--json-lines", *ADDRESSES)
    assert [json.loads(line) for line in lines.splitlines()] == alone
    _, line = asked(capsys, plain_snapshot, "walk", "--json-lines", ADDRESSES[0])
    assert [json.loads(line)] == alone[:1]


def test_statuses_for_scripts(capsys: pytest.CaptureFixture[str], plain_snapshot: Path) -> None:
    status, _ = asked(capsys, plain_snapshot, "ept", "--limit", "3")
    assert status == Status.INCOMPLETE.value
    assert main(["--dump", str(plain_snapshot / "memory.raw"), "vmcs12", "nonsense"]) == 1
    assert main(["--dump", str(plain_snapshot / "memory.raw"), "ept", "2..1"]) == 2


def test_an_answer_with_an_unread_part_says_so(plain_snapshot: Path) -> None:
    nowhere = 0x1_0000_0007  # an address of L1's beyond all memslots
    session, chosen = opened(plain_snapshot, entries={2: nowhere}, at=0x2000000)
    page = ept_page(listing(session, chosen, Which.L1, None, False, Budget(ENTRIES)))
    assert "?" in draw(page)
    assert page.status() is Status.UNREAD


def test_the_gravest_of_several_is_told() -> None:
    assert gravest([Status.DONE, Status.DIFFERS, Status.UNREAD]) is Status.DIFFERS
    assert gravest([]) is Status.DONE
