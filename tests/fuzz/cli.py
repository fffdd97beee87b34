# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/fuzz: damaged input of every kind, until something fails that should not."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from ctypes.util import find_library
from pathlib import Path

from bochs_lab import kernels
from bochs_lab import snapshot as lab
from bochs_lab.image import image
from bochs_lab.options import LabOptions
from bochs_lab.progress import Silent

from tests.fuzz import blobs
from tests.fuzz.dumps import Dumps, small_files
from tests.fuzz.memory import Fuzzed
from tests.fuzz.stub import Stubs

Case = Callable[[random.Random], "tuple[str, str]"]
#: Of a thousand cases: those on memories are what an attacker writes, and a stub takes longest.
SHARES = {
    **{"memory": 597, "requests": 200, "btf": 100},
    **{"kallsyms": 50, "vmcoreinfo": 50, "dump": 10, "stub": 3},
}
PARKS = ("l2", "l1-exit")


def cases(snapshots: Sequence[Path], cache: Path) -> dict[str, list[Case]]:
    """For each kind of input, what makes one case of it out of a generator's numbers; files of
    theirs lie in `cache`."""
    return {
        "memory": [Fuzzed(snapshot, cache).case for snapshot in snapshots],
        "dump": [Dumps(small_files(cache)).case] if find_library("kdumpfile") else [],
        "stub": [Stubs(snapshot).case for snapshot in snapshots[:1]],
        **{kind: [_named(kind, make)] for kind, make in blobs.KINDS.items()},
    }


def snapshots_of(lines: Sequence[str], cached: bool) -> list[Path]:
    """The lab's snapshots of these kernels; with `cached` only those that are there already."""
    found = []
    for line in lines:
        for park in PARKS:
            options = LabOptions(kernel=line, park=park)
            there = lab.path_of(image(options, Silent()).snapshot_key)
            if there.is_dir():
                found.append(there)
            elif not cached:
                found.append(lab.ensure(options))
    return found


def _named(kind: str, make: Callable[[random.Random], str]) -> Case:
    return lambda dice: (kind, make(dice))


def run(made: dict[str, list[Case]], first: int, count: int) -> tuple[Counter[str], list[str]]:
    """`count` cases from number `first` on: how many of each kind, and what failed."""
    counts: Counter[str] = Counter()
    failures = []
    kinds = [kind for kind, share in SHARES.items() for _ in range(share) if made.get(kind)]
    for seed in range(first, first + count):
        dice = random.Random(seed)
        kind = dice.choice(kinds)
        case = dice.choice(made[kind])
        try:
            name, problem = case(dice)
        except Exception:  # noqa: BLE001 (whatever it is, it is what we look for)
            name, problem = kind, traceback.format_exc()
        counts[f"{kind}: {name}" if name != kind else kind] += 1
        if problem:
            failures.append(f"seed {seed}, {kind}: {problem}")
    return counts, failures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fuzz",
        description="Damaged memories, tables, requests and headers of dumps: each must be "
        "answered, or refused in one message, with bounded work.",
    )
    parser.add_argument("--cases", type=int, default=3000, metavar="N", help="how many (3000)")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="number of the first case (1)"
    )
    parser.add_argument(
        "--kernels", default=kernels.DEFAULT, metavar="LIST", help="of the lab's snapshots"
    )
    parser.add_argument(
        "--cached", action="store_true", help="only snapshots that are there already"
    )
    parser.add_argument("--kind", choices=SHARES, help="of one kind alone")
    parser.add_argument("--no-lab", action="store_true", help="without the lab's memories")
    parsed = parser.parse_args(arguments)
    lines = [] if parsed.no_lab else parsed.kernels.split(",")
    snapshots = snapshots_of(lines, parsed.cached)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = cases(snapshots, Path(folder))
        if parsed.kind:
            made = {parsed.kind: made[parsed.kind]}
        counts, failures = run(made, parsed.seed, parsed.cases)
    for name, number in sorted(counts.items()):
        print(f"{number:8}  {name}")
    print(f"{sum(counts.values()):8}  in {time.monotonic() - start:.0f} s, {len(failures)} failed")
    for failure in failures[:20]:
        print(failure, file=sys.stderr)
    if failures:
        told = "replay one: scripts/fuzz --seed SEED --cases 1 (same --kernels, --kind, --no-lab)"
        print(told, file=sys.stderr)
    return 1 if failures else 0
