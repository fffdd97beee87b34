# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel whose build we met before is found with a few small reads, on any link.

For each build, the cache keeps where the variables lie that lead to vmcoreinfo.  Where the image
lies now, the page tables of a CR3 tell; without KASLR it is known.  What is found must prove itself
like any other find (`Search.prove`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gdb_nept.errors import MemoryUnreadable
from gdb_nept.target.cache import BuildCache, known_builds
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.kernel_symbols import SymbolLookup
from gdb_nept.target.locate import Located, Search
from gdb_nept.target.scan import USUAL_TEXT, image_pages
from gdb_nept.target.vmcoreinfo import KERNEL_MAP

FILE = "anchors.json"
NAMES = ("phys_base", "page_offset_base", "vmcoreinfo_data")


def remember(store: BuildCache, symbols: SymbolLookup, kaslr_offset: int) -> None:
    """Keep the places that lead to vmcoreinfo, with KASLR's offset taken off."""
    found = [symbols.address(name) for name in NAMES]
    places = [address - kaslr_offset for address in found if address is not None]
    anchors = json.dumps(dict(zip(NAMES, places))).encode()
    if len(places) == len(NAMES) and anchors not in store.contents(FILE):
        store.store(FILE, anchors)


def known_build(search: Search, root: Path | None) -> Located | None:
    """The kernel in memory, if it is of a build in the cache; else None."""
    images = list(dict.fromkeys(placements(search)))
    for build_id in known_builds(root):
        for data in BuildCache(root, build_id).contents(FILE):
            for kaslr_offset, phys_base in images:
                moved = {name: place + kaslr_offset for name, place in _anchors(data).items()}
                found = search.follow(SymbolTable(list(moved), list(moved.values())), phys_base)
                if found and found.info.build_id == build_id:
                    return found
    return None


def _anchors(data: bytes) -> dict[str, int]:
    """{} for what `remember` has not written."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    whole = isinstance(found, dict) and all(isinstance(found.get(name), int) for name in NAMES)
    return found if whole else {}


def placements(search: Search) -> Iterator[tuple[int, int]]:
    """(KASLR offset, phys_base) of the images that CR3s map, then of one that nobody moved."""
    for cr3 in search.cr3s:
        try:
            pages = image_pages(search.memory, cr3)
        except MemoryUnreadable:
            continue
        if pages:
            first = pages[0]
            yield first.virtual - USUAL_TEXT, first.physical - (first.virtual - KERNEL_MAP)
    yield 0, 0
