# SPDX-License-Identifier: GPL-2.0-or-later
"""What the accesses of one instruction do to each other: flags of EPT, the log of modified pages,
and verified guest paging (SDM vol. 3, June 2026, 31.3.6 and 31.3.3.2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.predict.tables import CAP, PW, VGP, A, D
from tests.predict.test_guest_request import (
    EPT,
    EPT_LEAVES,
    EPT_ROOT,
    LONG,
    TABLES,
    USER,
    asked_with,
)

GUEST = {**TABLES, 0x13000: 0x20000 | USER}
TABLE_PAGES, PAGE = (0x10, 0x11, 0x12, 0x13), 0x20
WITH_FLAGS = hex(EPT_ROOT | 0x5E)
MARKED = {place: word | A for place, word in EPT.items()}
FOLLOWED = {"paging_write": True, "verify_guest_paging": True}


def leaf(page: int) -> int:
    return EPT_LEAVES + 8 * page


def logged(index: int, words: dict[int, int], **access: Any) -> dict[str, Any]:
    request = {"eptp": WITH_FLAGS, "ept_caps": hex(CAP), "pml_index": index}
    return asked_with(request, {**MARKED, **GUEST, **words}, LONG, op="write", **access)


@pytest.mark.parametrize("index", range(6))
def test_each_dirty_flag_counts_the_log_down(index: int) -> None:
    """Four tables of L2's and the page: five pages are logged."""
    found = logged(index, {})
    assert found["outcome"] == ("translated" if index >= 4 else "pml_full")
    assert len(found["before"]) == min(index + 1, 4)


def test_pages_that_are_dirty_are_not_logged() -> None:
    dirty = {leaf(page): MARKED[leaf(page)] | D for page in TABLE_PAGES}
    assert logged(0, dirty)["outcome"] == "translated"
    assert logged(0xFFFF, dirty)["outcome"] == "pml_full"
    assert logged(0, {place: word for place, word in dirty.items() if place != leaf(0x11)})[
        "access"
    ] == {"gpa": "0x20123", "op": "write", "stage": "final"}


def test_a_page_is_logged_once() -> None:
    """All tables of L2's in one page, which is walked four times."""
    root = 0x10000
    guest = {root + 8 * n: (root + 8 * (n + 1)) & ~0xFFF | USER for n in range(3)}
    words = {root: root | USER}  # entry 0 of each level is the same one
    found = logged(1, {**guest, **words})
    assert (found["outcome"], found["hpa"]) == ("translated", "0x10123")
    assert logged(0, {**guest, **words})["outcome"] == "translated"  # the page itself is that one


@pytest.mark.parametrize("lacking", [None, *TABLE_PAGES])
def test_guest_paging_is_verified_by_the_leaves_of_its_tables(lacking: int | None) -> None:
    words = {leaf(page): EPT[leaf(page)] | PW for page in TABLE_PAGES if page != lacking}
    words[leaf(PAGE)] = EPT[leaf(PAGE)] | VGP
    found = asked_with({"controls": FOLLOWED}, {**GUEST, **words}, LONG)
    if lacking is None:
        assert found["outcome"] == "translated"
    else:
        assert (found["outcome"], found["exit_qualification"]) == ("violation", "0x81b9")
    alone = {"controls": {"verify_guest_paging": True}}
    assert asked_with(alone, {**GUEST, **words}, LONG)["outcome"] == "translated"


def test_without_paging_nothing_is_to_be_verified() -> None:
    words = {leaf(PAGE): EPT[leaf(PAGE)] | VGP}
    unpaged = {"cr0": 1, "cr3": 0, "cr4": 0}
    found = asked_with({"controls": FOLLOWED}, words, unpaged, gla="0x20123")
    assert found["outcome"] == "translated"


def test_an_event_that_is_being_delivered_makes_no_ve() -> None:
    absent = {**GUEST, leaf(PAGE): 0}
    more = {"controls": {"ve": True}}
    assert asked_with(more, absent, LONG)["outcome"] == "ve"
    delivered = asked_with(more, absent, LONG, event_delivery=True)
    assert (delivered["outcome"], delivered["ignored"]) == ("violation", [])
    assert not int(delivered["qualification_mask"], 0) & 0x1000
    returned = asked_with({}, absent, LONG, nmi_unblocking=True)
    assert int(returned["exit_qualification"], 0) & 0x1000
