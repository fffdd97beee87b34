# SPDX-License-Identifier: GPL-2.0-or-later
"""A page as text for a terminal, and how numbers look in it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import MEMORY_TYPES, EptEntry, Eptp
from gdb_nept.render.page import WIDTH, Page
from gdb_nept.render.table import draw_rows

#: Control characters but the end of a line, and those that turn the direction of writing.
CONTROL = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)
LABEL = re.compile(r"because: |\w+:  +")
UNITS = ((50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K"))


def draw(page: Page) -> str:
    """The page without colour."""
    return "".join(pieces(page))


def pieces(page: Page, most: int | None = None, width: int = WIDTH) -> Iterator[str]:
    """The same as it is made, whole lines at a time, in `width` columns: an empty line parts its
    blocks, but a heading ("...:") from what it heads.  At most about `most` rows of a table."""
    last = ""
    for block in page.blocks:
        found = block() if callable(block) else block
        if isinstance(found, str):
            parts = iter((paragraph(found if last else opening(found, width), width),))
        else:
            parts = draw_rows(found, width, most)
        gap = "" if not last else "\n" if last.endswith(":") else "\n\n"
        for part in filter(None, parts):
            yield escaped(gap + part)
            last, gap = part, "\n"


def escaped(drawn: str) -> str:
    """With what would drive a terminal as \\x1b: a name in the target can hold anything."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], drawn)


def opening(text: str, width: int = WIDTH) -> str:
    """The beginning of a page: a first line that is too long ends with a clause, not within it."""
    line, found, rest = text.partition("\n")
    place = line.rfind("; ", 0, width)
    if len(line) <= width or place < 0:
        return text
    return f"{line[: place + 1]}\n  {line[place + 2 :]}{found}{rest}"


def first_whole(*said: str) -> str:
    """The first that no terminal of WIDTH columns breaks, else the last: the same answer, with
    less that stands below as well."""
    whole = (line for line in said if len(line) < WIDTH)
    return next(whole, said[-1])


def sentence(said: str) -> str:
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def lines(*said: str) -> str:
    """But for those that say nothing."""
    return "\n".join(filter(None, said))


def paragraph(text: str, width: int = WIDTH) -> str:
    """Long lines broken at words; a broken line goes on two columns further in, or below what
    stands behind its label."""
    found = []
    for line in text.splitlines():
        label = LABEL.match(line)
        indent = " " * (len(label[0]) if label else len(line) - len(line.lstrip()) + 2)
        found += textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(found)


def address(number: int | None, digits: int = 10) -> str:
    """A physical address in a column of its like: 0x0000101000."""
    return "-" if number is None else f"{number:#0{digits + 2}x}"


def word(number: int) -> str:
    """A whole 64-bit word: 0x0000000000101007."""
    return f"{number:#018x}"


def size(count: int) -> str:
    """4K, 2M, 1G; what no unit divides to a short number is rounded and says so: ~256T."""
    for shift, unit in UNITS:
        if count and count % (1 << shift) == 0 and count >> shift < 10000:
            return f"{count >> shift}{unit}"
    for shift, unit in UNITS:
        near = count + (1 << max(0, shift - 11))  # rounded in the next smaller unit
        if near >= 10 << shift or near >= 1 << shift > count:
            return f"~{(count + (1 << (shift - 1))) >> shift}{unit}"
    return f"{count}B"


def rights(entry: EptEntry, mbec: bool = False) -> str:
    """RWX, R-X; with mode-based execute control a fourth letter: u, execution in user mode."""
    letters = [
        "R" if entry.read else "-",
        "W" if entry.write else "-",
        "X" if entry.execute else "-",
    ]
    if mbec:
        letters.append("u" if entry.user_execute else "-")
    return "".join(letters)


def memory_type(entry: EptEntry) -> str:
    """WB, UC, ...; a reserved type by its number."""
    return MEMORY_TYPES.get(entry.memory_type, f"type {entry.memory_type}")


SELDOM = (
    EptEntry.ignore_pat,
    EptEntry.verify_guest_paging,
    EptEntry.paging_write,
    EptEntry.supervisor_shadow_stack,
    EptEntry.sub_page_write,
    EptEntry.suppress_ve,
)


def extras(entry: EptEntry, ignored: int = 0) -> str:
    """The flags of a leaf that are seldom set, by their short names; those of the bits that the
    processor ignores just now, in brackets."""
    here = [field for field in SELDOM if entry.value & field.mask]
    used = " ".join(field.short for field in here if not field.mask & ignored)
    idle = " ".join(field.short for field in here if field.mask & ignored)
    return f"{used} [{idle}]".strip() if idle else used


def ignored_bits(cpu: Capabilities, eptp: Eptp) -> int:
    """The bits of a leaf that mean nothing with these controls and this EPTP (31.3.2)."""
    idle = (
        (EptEntry.verify_guest_paging, cpu.verify_guest_paging),
        (EptEntry.paging_write, cpu.paging_write),
        (EptEntry.supervisor_shadow_stack, bool(eptp.shadow_stack)),
        (EptEntry.sub_page_write, cpu.sub_page),
    )
    return sum(field.mask for field, in_force in idle if not in_force)


def count(number: int, thing: str) -> str:
    """1 page, 2 pages; 1 entry, 2 entries."""
    if number == 1:
        return f"1 {thing}"
    return f"{number} {thing[:-1]}ies" if thing.endswith("y") else f"{number} {thing}s"


def in_words(entry: EptEntry, leaf: bool, mbec: bool = False, flags: bool = True) -> str:
    """RWX; WB; accessed, dirty.

    `mbec`: bit 10 is a right, and shown if it is set.  Without `flags` (EPTP bit 6) the processor
    ignores accessed and dirty: they stand in brackets."""
    can = rights(entry, mbec and bool(entry.user_execute))
    if not can.strip("-"):
        return "not present"
    parts = [can]
    if leaf:
        parts.append(memory_type(entry))
    used = [name for name in ("accessed", "dirty")[: 2 if leaf else 1] if getattr(entry, name)]
    parts.append(", ".join(used) if flags or not used else f"[{', '.join(used)}]")
    parts.append(extras(entry) if leaf else "")
    return "; ".join(part for part in parts if part)


def marks(
    entry: EptEntry, leaf: bool, cpu: Capabilities | None = None, eptp: Eptp | None = None
) -> str:
    """RWX  AD  WB IPAT: the rights, the accessed and dirty flags, and of a leaf its memory type and
    what is seldom set, in columns.  What `cpu` and `eptp` make the processor ignore stands in
    brackets."""
    mbec = bool(cpu and cpu.mbec)
    if not entry.present(mbec=mbec):
        return "not present"
    used = flags(entry.accessed, entry.dirty if leaf else None)
    if used.strip("-") and eptp is not None and not eptp.accessed_dirty:
        used = f"[{used}]"
    ignored = ignored_bits(cpu, eptp) if cpu and eptp else 0
    kind = f"{memory_type(entry)} {extras(entry, ignored)}" if leaf else ""
    return columns(rights(entry, mbec), used, kind)


def flags(accessed: int, dirty: int | None) -> str:
    """AD, A-, --; what references a table has no dirty flag."""
    return ("A" if accessed else "-") + ("" if dirty is None else "D" if dirty else "-")


def columns(rights: str, used: str, rest: str) -> str:
    """What an entry says, below what its neighbours say."""
    return f"{rights:3}  {used:2}  {rest}".rstrip()
