# SPDX-License-Identifier: GPL-2.0-or-later
"""One table of what the work costs: ours, the floor, and a peer, in turns on one core.

The floor is the shortest Python that does the same by hand, without a check.  The peer is drgn
(`pip install drgn`), which knows no EPT: it reads the tables, and the floor's loop decodes them.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import bench_ept
import bench_predict
import bench_watch
from bench_ept import Tables, seconds

from gdb_nept.address import L1Phys
from gdb_nept.render import json as as_json
from gdb_nept.render import text

LEAVES, MANY = 32768, 1 << 20
ROOT = Path(__file__).resolve().parents[1]
FORMS = {"text": text.pieces, "--json": as_json.pieces, "--json-lines": as_json.lines}

Row = Sequence[str]


def main() -> int:
    print(f"{'what':34} {'ours':>10} {'floor':>10} {'drgn':>10} {'ours/floor':>11}")
    rows = chain(_listings(), _address(), _many(), _requests(), _start(), _lab())
    for what, *figures in rows:
        print(f"{what:34} " + " ".join(f"{figure:>10}" for figure in figures), flush=True)
    if find_spec("drgn") is None:
        print("this Python has no drgn: $(scripts/setup | tail -n 1)/bin/python scripts/bench")
    return 0


def _row(what: str, ours: float, floor: float, peer: str = "") -> Row:
    return what, _shown(ours), _shown(floor), peer or "-", f"{ours / floor:.1f}"


def _shown(took: float) -> str:
    return f"{took * 1000:.1f} ms" if took >= 1e-3 else f"{took * 1e6:.0f} us"


def _listings() -> Iterator[Row]:
    merging, scattered = Tables(LEAVES, False), Tables(LEAVES, True)
    for name, tables, plain in (
        ("merged", merging, bench_ept.floor),
        ("scattered", scattered, bench_ept.plain),
    ):
        base = seconds(partial(plain, tables, io.StringIO()))
        peer = _by_drgn(tables, plain)
        for form, pieces in FORMS.items():
            took = seconds(partial(bench_ept.ours, tables, io.StringIO(), pieces=pieces))
            yield _row(f"{LEAVES} {name}, EPT12, {form}", took, base, peer)
        took = seconds(partial(bench_ept.ours, tables, io.StringIO(), shadow=True))
        yield _row(f"{LEAVES} {name}, EPT02, text", took, base, peer)


class _Drgn:
    """Tables as drgn reads them; raises ImportError."""

    def __init__(self, tables: Tables) -> None:
        drgn = import_module("drgn")  # has no types for mypy where it is not installed

        def read(address: int, count: int, offset: int, physical: bool) -> bytes:
            return tables.read(L1Phys(address), count)

        self.program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
        self.program.add_memory_segment(0, 1 << 40, read, True)
        self._places = tables.leaf_places

    @property
    def leaf_tables(self) -> Iterator[bytes]:
        return (self.program.read(place, 4096, True) for place in self._places)


def _by_drgn(tables: Tables, plain: Callable[..., None]) -> str:
    try:
        return _shown(seconds(partial(plain, _Drgn(tables), io.StringIO())))
    except ImportError:
        return "no drgn"


def _address() -> Iterator[Row]:
    tables = Tables(LEAVES, True)
    ours = seconds(partial(bench_ept.walks, tables, io.StringIO())) / 1024
    floor = seconds(partial(bench_ept.plain_walks, tables.word)) / 1024
    try:
        read = _Drgn(tables).program.read_u64
        peer = _shown(seconds(partial(bench_ept.plain_walks, partial(read, physical=True))) / 1024)
    except ImportError:
        peer = "no drgn"
    yield _row("one address walked", ours, floor, peer)


def _many() -> Iterator[Row]:
    """In a process for each, since a peak is of a whole process."""
    for form in (*FORMS, "EPT02"):
        command = [sys.executable, str(ROOT / "scripts" / "bench"), "--peak", form]
        told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        ours, floor, before, peak = json.loads(told)
        *row, ratio = _row(f"{MANY} scattered, {form}", ours, floor)
        yield (*row, ratio, f" peak {peak} MB, {before} MB before")


def peak(form: str) -> int:
    """Prints seconds: ours, the floor's; and the peak in MBytes, before and after ours."""
    tables = Tables(MANY, True)
    with open(os.devnull, "w") as out:
        before, begin = _peak(), time.process_time()
        pieces = FORMS.get(form, text.pieces)
        bench_ept.ours(tables, out, form == "EPT02", pieces)
        ours, after, begin = time.process_time() - begin, _peak(), time.process_time()
        bench_ept.plain(tables, out)
        print(json.dumps([ours, time.process_time() - begin, before, after]))
    return 0


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _requests() -> Iterator[Row]:
    ours, plain = bench_predict.rates(20_000)
    yield "predict --json-lines", f"{ours:.0f}/s", f"{plain:.0f}/s", "-", f"{plain / ours:.1f}"


def _start() -> Iterator[Row]:
    python, help_text = _processor("-c", "pass"), _processor("-m", "gdb_nept", "--help")
    yield _row("start-up: nept --help", help_text, python)


def _lab() -> Iterator[Row]:
    """What needs a kernel: over the lab's snapshot, if there is one."""
    place = bench_watch.snapshot()
    if place is None:
        yield "attach, nept-watch", "no snapshot: scripts/lab snapshot --park l1-exit"
        return
    bare = _processor("-c", "pass")
    yield _row("attach, unknown build, a file", bench_watch.seconds_to_attach(place), bare)
    yield "the same in gdb, QEMU's stub alone", _shown(bench_watch.seconds_through_stub(place))
    yield "nept-watch: ours, a fault", _shown(bench_watch.seconds_a_fault(place))


def _processor(*words: str) -> float:
    """Processor seconds of a Python of its own, the least of three."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, *words]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)
