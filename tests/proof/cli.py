# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole proof as one command: see scripts/prove."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bochs_lab import kernels
from bochs_lab.errors import LabError
from bochs_lab.progress import Progress, for_stream

from gdb_nept.judge.features import kvm_model
from gdb_nept.predict.case import BOCHS
from tests.proof.claims import OnProcessor, UnderKvm
from tests.proof.lab import run_bare, run_kvm
from tests.proof.proof import UNEXPLAINED, Tally, changes, prove

TABLE = Path(__file__).resolve().parents[1] / "data" / "deviations.json"

#: Cases of each set and oracle; None is all that are generated.
SETS: dict[str, dict[str, int | None]] = {
    "full": {"bare": None, "kvm": 120_000},
    "ci": {"bare": 20_000, "kvm": 10_000},  # the count of "kvm" is that of every kernel
}


def bare_tally(count: int | None, progress: Progress | None = None) -> Tally:
    """The processor: Bochs' own exits."""
    return prove(run_bare(count, progress), OnProcessor())


def kvm_tally(
    count: int | None, progress: Progress | None = None, line: str = kernels.DEFAULT
) -> Tally:
    """What the KVM of L0's kernel injects, against the model that is probed from that kernel."""
    found = run_kvm(count, progress, line)
    model = kvm_model(found.session, found.chosen, BOCHS).model
    return prove(found.run, UnderKvm(model.kvm))


#: By oracle: the processor, and each kernel's KVM.  The default kernel's is called "kvm".
TALLIES: dict[str, Callable[..., Tally]] = {
    "bare": bare_tally,
    "kvm": kvm_tally,
    **{
        f"kvm-{line}": partial(kvm_tally, line=line)
        for line in kernels.KERNELS
        if line != kernels.DEFAULT
    },
}
USUAL = ("bare", "kvm")


def failures(tally: Tally, oracle: str, name: str) -> list[str]:
    """What is wrong with a tally, a line each; requests first."""
    checked = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    lines = list(tally.requests)
    if tally.wrong:
        lines.append(f"{sum(tally.wrong.values())} cases differ from the model: {tally.wrong}")
    if UNEXPLAINED in tally.deviations:
        lines.append(f"no named rule explains: {tally.deviations[UNEXPLAINED]}")
    return lines + changes(checked.get(oracle, {}).get(name, {}), tally.table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="prove", description="Holds the predictions against Bochs and against KVM."
    )
    parser.add_argument("--set", choices=SETS, default="full", help="how many cases (full)")
    parser.add_argument(
        "--only", choices=TALLIES, help=f"one oracle (the usual: {', '.join(USUAL)})"
    )
    parser.add_argument("--write", action="store_true", help=f"write the counts to {TABLE.name}")
    parsed = parser.parse_args(arguments)
    status = 0
    try:
        for oracle in [parsed.only] if parsed.only else USUAL:
            status |= _prove(oracle, parsed.set, parsed.write)
    except LabError as error:
        sys.stderr.write(f"prove: {error}\n")
        return 1
    return status


def _prove(oracle: str, name: str, write: bool) -> int:
    start = time.monotonic()
    tally = TALLIES[oracle](SETS[name][oracle.partition("-")[0]], for_stream(sys.stderr))
    _print(oracle, tally, time.monotonic() - start)
    if write:
        _write(oracle, name, tally)
    wrong = failures(tally, oracle, name)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def _print(oracle: str, tally: Tally, seconds: float) -> None:
    print(f"\n{oracle}: {sum(tally.cases.values())} cases in {seconds:.0f} s")
    print(f"{'cases':>8} {'wrong':>6} {'not SDM':>8}  group")
    for group, count in tally.cases.items():
        deviating = sum(groups[group] for groups in tally.deviations.values())
        print(f"{count:8} {tally.wrong[group]:6} {deviating:8}  {group}")
    print(f"{sum(tally.cases.values()):8} {sum(tally.wrong.values()):6}           in all")
    for rule, groups in sorted(tally.deviations.items()):
        print(f"{sum(groups.values()):24}  {rule}")


def _write(oracle: str, name: str, tally: Tally) -> None:
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    table.setdefault(oracle, {})[name] = tally.table
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
