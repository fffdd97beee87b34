# SPDX-License-Identifier: GPL-2.0-or-later
"""The map of a guest-physical space: as values, as strips, and as a picture in a real browser."""

from __future__ import annotations

import html
import json
import random
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.errors import BadInput
from gdb_nept.nested.space_map import Ept12, SpaceMap, Stretch
from gdb_nept.render.json import draw_json
from gdb_nept.render.map_html import MOST, picture, write_picture
from gdb_nept.render.map_text import R, W, X, map_page
from gdb_nept.render.page import WIDTH, Status
from gdb_nept.render.text import draw
from tests.schemas import hold_page

RWX = Ept12(R | W | X, "WB", 4096, slot=0, mapped=True)
RX = RWX._replace(rights=R | X)
WRONG = Ept12(wrong="the PTE is misconfigured: W is set without R")


def whole(stretches: list[Stretch], notes: tuple[str, ...] = ()) -> SpaceMap:
    return SpaceMap(0, 1, tuple(stretches), True, notes)


SMALL = whole(
    [
        Stretch(0x0, 0x200000, RWX, 0x1000000, R | W | X),
        Stretch(0x200000, 0x400000, RX, 0x1200000, None),
        Stretch(0x400000, 0x401000, WRONG, None, None),
        Stretch(1 << 46, (1 << 46) + 0x200000, RWX, 0x2000000, R),
    ],
    ("of <another> root",),
)


def scattered(count: int) -> SpaceMap:
    dice, place, found = random.Random(3), 0, []
    for number in range(count):
        place += 4096 * dice.choice((1, 1, 1, 2, 3, 40))
        kind = dice.choice((RWX, RX)) if number != count // 2 else WRONG
        l1 = None if kind is WRONG else dice.randrange(1 << 20) << 12
        found.append(Stretch(place, place + 4096, kind, l1, dice.choice((None, R | X))))
        place += 4096
    return whole(found)


def test_strips_say_what_is_there() -> None:
    lines = draw(map_page(SMALL)).splitlines()
    head = "L2 on VM 0, vCPU 1: 6M mapped by EPT12, 4M of it in EPT02; 4K misconfigured"
    assert lines[0] == head
    assert max(map(len, lines)) <= WIDTH
    first, second = (number for number, line in enumerate(lines) if line.endswith("):"))
    assert re.fullmatch(r"  EPT12 \|#{35}x{34}!\|", lines[first + 1])
    assert re.fullmatch(r"  EPT02 \|#{35} {35}\|", lines[first + 2])
    assert re.fullmatch(r"  EPT12 \|#{70}\|", lines[second + 1])
    assert re.fullmatch(r"  EPT02 \|r{70}\|", lines[second + 2])


def test_a_wide_hole_parts_regions() -> None:
    assert SMALL.regions == ((0, 0x401000), (1 << 46, (1 << 46) + 0x200000))
    assert whole([]).regions == ()
    assert (
        len(whole([Stretch(n << 40, (n << 40) + 4096, RWX, 0, None) for n in range(99)]).regions)
        == 12
    )


def test_what_was_not_read_is_told() -> None:
    lost = Stretch(0x200000, 0x400000, Ept12(unread="a table is left out"), None, R)
    page = map_page(whole([SMALL.stretches[0], lost]))
    head = "L2 on VM 0, vCPU 1: 2M mapped by EPT12, 2M of it in EPT02; 2M not read"
    assert draw(page).splitlines()[0] == head
    assert page.data["unread"] == 0x200000
    assert page.status() is Status.UNREAD
    assert map_page(SMALL).status() is Status.DONE


def test_an_ept02_that_was_not_read_is_not_taken_for_empty() -> None:
    page = map_page(whole([Stretch(0, 0x2000, RWX, 0x7000, None, ept02_unread=True)]))
    lines = draw(page).splitlines()
    assert lines[0].endswith("0B of it in EPT02; EPT02 not read for 8K")
    assert f"  EPT02 |{'?' * 70}|" in lines
    assert page.status() is Status.UNREAD
    hold_page("nept-map", page)


def test_what_is_derived_is_told_and_parts_the_missing() -> None:
    kind = Ept12(R | W, page_size=4096, unread="a table is left out", derived=True, slot=0)
    lost = Ept12(unread="a table is left out")
    found = whole(
        [
            Stretch(0, 0x2000, kind, 0x7000, R | W),
            Stretch(0x2000, 1 << 46, lost, None, None),
            Stretch(1 << 46, (1 << 46) + 0x1000, kind, 0x9000, None),
            Stretch((1 << 46) + 0x1000, 1 << 47, lost, None, None),
        ]
    )
    assert found.regions == ((0, 0x2000), (1 << 46, (1 << 46) + 0x1000))
    page = map_page(found)
    lines = draw(page).splitlines()
    assert "12K derived; ~128T not read" in " ".join(" ".join(lines[:2]).split())
    assert sum(line == f"  EPT12 |{'~' * 70}|" for line in lines) == 2
    assert lines[-1].startswith("~ EPT12 cannot be read there, and is derived")
    told = [one["how"] for one in json.loads(draw_json(page))["stretches"]]
    assert told == ["derived", "missing", "derived", "missing"]
    assert (page.data["derived"], page.data["unread"]) == (0x3000, (1 << 47) - 0x3000)
    assert page.status() is Status.UNREAD
    hold_page("nept-map", page)
    assert "RW- at least (derived), 4K pages" in picture(found, "6.1")


def test_an_empty_space() -> None:
    assert draw(map_page(whole([]))) == "L2 on VM 0, vCPU 1: 0B mapped by EPT12, 0B of it in EPT02"


def test_more_than_a_picture_holds_is_joined() -> None:
    found = scattered(28_000)
    joined = found.coarse(2_000)
    assert len(joined.stretches) <= 2_000
    assert sum(one.several for one in joined.stretches) == 28_000
    assert (joined.stretches[0].start, joined.stretches[-1].end) == (
        found.stretches[0].start,
        found.stretches[-1].end,
    )
    assert found.coarse(28_000) == found


def test_as_data() -> None:
    hold_page("nept-map", map_page(SMALL))
    hold_page("nept-map", map_page(SMALL, "l2.html"))


class Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_picture_needs_nothing_else() -> None:
    page = picture(SMALL, "6.1.0")
    for tag, attributes in Reader(page).tags:
        assert not {"src", "href"} & set(attributes), tag
        assert tag not in ("link", "iframe", "img", "object")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_text_of_the_target_cannot_become_markup() -> None:
    evil = "</script><script>alert(1)</script>"
    bad = whole([Stretch(0, 4096, Ept12(unread=evil), None, None)], (evil,))
    page = picture(bad, evil)
    assert evil not in page
    assert html.escape(evil) in page
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert data
    assert evil in json.loads(data[1])["kinds"][0]["own"]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "l2.html"
    path.write_text("mine")
    with pytest.raises(BadInput, match="there already"):
        write_picture(SMALL, path, False, "6.1")
    assert path.read_text() == "mine"
    write_picture(SMALL, path, True, "6.1")
    assert path.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(BadInput, match="cannot write"):
        write_picture(SMALL, tmp_path / "none" / "l2.html", False, "6.1")


def test_28_000_scattered_pages_fit_a_page() -> None:
    assert MOST >= 28_000
    assert len(picture(scattered(28_000), "6.1")) < 4 << 20


# -- in a browser ----------------------------------------------------------------------------------

WATCH = """<script>
addEventListener("error", event => { document.documentElement.dataset.error = event.message; });
addEventListener("securitypolicyviolation", event => {
  document.documentElement.dataset.error = "refused: " + event.blockedURI; });
</script>"""
ACT = """<script>
const map = document.getElementById("map"), said = document.getElementById("said");
const told = { first: map.dataset.rects };
const as = { bubbles: true, cancelable: true };
const press = key => {
  map.dispatchEvent(new KeyboardEvent("keydown", { key, ...as }));
  return said.textContent;
};
told.right = [press("ArrowRight"), press("ArrowRight"), press("ArrowRight")];
told.chosen = map.querySelectorAll("[data-chosen]").length;
told.left = press("ArrowLeft");
told.zoomed = [];
for (let number = 0; number < 12; number++) {
  press("+");
  told.zoomed.push(Number(map.dataset.rects));
}
press("Home");
told.again = map.dataset.rects;
told.end = press("End");
document.getElementById("in").click();
document.getElementById("all").click();
map.dispatchEvent(new WheelEvent("wheel", { deltaY: -1, clientX: 300, ...as }));
told.rows = document.querySelectorAll("tbody tr").length;
told.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.documentElement.dataset.told = JSON.stringify(told);
</script>"""


def acted(found: SpaceMap, folder: Path, width: int = 1280) -> dict[str, Any]:
    """What the page does when keys are pressed on it."""
    page = picture(found, "6.1.0")
    page = page.replace("<head>", "<head>" + WATCH, 1).replace("</body>", ACT + "</body>", 1)
    path = folder / "l2.html"
    path.write_text(page)
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    done = subprocess.run(
        [*words, f"--window-size={width},800", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    attributes = next(attributes for tag, attributes in Reader(done.stdout).tags if tag == "html")
    assert "data-error" not in attributes, attributes
    told: dict[str, Any] = json.loads(str(attributes["data-told"]))
    return told


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 500])
def test_keys_go_from_stretch_to_stretch(tmp_path: Path, width: int) -> None:
    told = acted(SMALL, tmp_path, width)
    assert told["right"][0].startswith("0x0..0x200000 (2M)  EPT12 RWX WB, 4K pages -> L1 0x1000000")
    assert told["right"][1].endswith("EPT02 not yet  memslot 0")
    assert "W is set without R" in told["right"][2]
    assert (told["left"], told["chosen"]) == (told["right"][1], 1)
    assert told["end"].startswith(f"{1 << 46:#x}..")
    assert int(told["again"]) == int(told["first"]) + 1, "all of it, and what is chosen"
    assert told["rows"] == 4
    assert not told["wide"], "the page scrolls sideways"


@pytest.mark.browser
def test_thousands_are_drawn_by_the_screen_and_found_by_zoom(tmp_path: Path) -> None:
    told = acted(scattered(28_000), tmp_path)
    assert 100 < int(told["first"]) < 6_000
    assert max(told["zoomed"]) < 6_000
    assert told["zoomed"][-1] < int(told["first"])
    assert told["rows"] == 2_000


@pytest.mark.browser
def test_an_empty_space_is_drawn_too(tmp_path: Path) -> None:
    assert acted(whole([]), tmp_path)["rows"] == 0
