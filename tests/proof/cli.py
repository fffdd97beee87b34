# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole proof as one command: see scripts/prove."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bochs_lab import kernels
from bochs_lab.emulator import BUILT, INSTALLED, SKYLAKE, VERSIONS, Emulator
from bochs_lab.errors import LabError
from bochs_lab.progress import Progress, for_stream

from gdb_nept.judge.features import kvm_model
from gdb_nept.predict.case import BOCHSES
from tests.features.cases import KVM_GROUPS, LA57_GROUPS, iret
from tests.features.cases import build as build_features
from tests.features.judge import judge as judge_features
from tests.features.run import run as run_features
from tests.features.run import run_kvm as run_features_under_kvm
from tests.guests.generate import build, build_pairs
from tests.guests.scenarios import AD
from tests.modes.cases import READ_ONLY_FLAGS, with_stacks
from tests.modes.cases import build as build_modes
from tests.modes.judge import judge as judge_modes
from tests.modes.run import run as run_modes
from tests.modes.run import run_under_kvm as run_modes_under_kvm
from tests.proof.claims import OnProcessor, UnderKvm
from tests.proof.lab import USUAL, run_bare, run_kvm
from tests.proof.proof import UNEXPLAINED, Tally, changes, prove

TABLE = Path(__file__).resolve().parents[1] / "data" / "deviations.json"

MODES_AT_ONCE = 110_000  # cases of a run: what L1's memory has room for
LA57_CPU = "sapphire_rapids"  # of Bochs' processors, the one with five levels of paging

#: Cases of each set and oracle; None is all that are generated.  The count of "kvm" is that of
#: every kernel, and so with "modes-kvm".
SETS: dict[str, dict[str, int | None]] = {
    "full": {
        "bare": None,
        "pairs": None,
        "features": None,
        "iret": None,
        "modes": None,
        "stacks": None,
        "kvm": 120_000,
        "modes-kvm": 107_000,  # of which some are skipped
    },
    "ci": {
        "bare": 20_000,
        "pairs": 10_000,
        "features": 5_000,
        "iret": None,
        "modes": 5_000,
        "stacks": 2_000,
        "kvm": 10_000,
        "modes-kvm": 5_000,
    },
}


def bare_tally(
    count: int | None, progress: Progress | None = None, emulator: Emulator = USUAL
) -> Tally:
    """The processor: Bochs' own exits."""
    claim = OnProcessor(BOCHSES[emulator.version])
    return prove(run_bare(build(count), progress, emulator), claim)


def pairs_tally(
    count: int | None, progress: Progress | None = None, emulator: Emulator = USUAL
) -> Tally:
    """The processor, and two entries of a path with all their low bits; asked by name only."""
    claim, total = OnProcessor(BOCHSES[emulator.version]), Tally()
    for ad in (0, AD):
        half = None if count is None else count // 2
        total.add(prove(run_bare(build_pairs(ad, half), progress, emulator), claim))
    return total


def features_tally(
    count: int | None, progress: Progress | None = None, emulator: Emulator = USUAL
) -> Tally:
    """The processor again, with features on that the other cases do without; or, if it can have
    them, with five levels of L2's and L1's own paging."""
    if emulator.cpu == LA57_CPU:
        scenario, words = build_features(count, LA57_GROUPS), "la57=1"
    else:
        scenario, words = build_features(count), ""
    found = run_features(scenario, progress, emulator, words)
    tally = judge_features(found, OnProcessor(BOCHSES[emulator.version]))
    tally.skipped = found.skipped
    return tally


def iret_tally(
    count: int | None, progress: Progress | None = None, emulator: Emulator = USUAL
) -> Tally:
    """The processor, and IRETs with NMIs blocked and not, which other cases do without."""
    found = run_features(build_features(count, (iret,)), progress, emulator)
    tally = judge_features(found, OnProcessor(BOCHSES[emulator.version]))
    tally.skipped = found.skipped
    return tally


def modes_tally(
    count: int | None, progress: Progress | None = None, emulator: Emulator = USUAL
) -> Tally:
    """The processor, and L2 in each of its paging modes; those of five levels on one that has
    them."""
    five = emulator.cpu == LA57_CPU
    without = frozenset({READ_ONLY_FLAGS} if emulator.version == BUILT else {})
    claim, total = OnProcessor(BOCHSES[emulator.version]), Tally()
    for part in build_modes(count, five, without).parts(MODES_AT_ONCE):
        total.add(judge_modes(run_modes(part, progress, emulator, "la57=1" * five), claim))
    return total


def stacks_tally(
    count: int | None, progress: Progress | None = None, emulator: Emulator = USUAL
) -> Tally:
    """The processor, and shadow stacks of L2's in each paging mode: it must have them."""
    five = emulator.cpu == LA57_CPU
    claim, total = OnProcessor(BOCHSES[emulator.version]), Tally()
    for part in with_stacks(count, five).parts(MODES_AT_ONCE):
        total.add(judge_modes(run_modes(part, progress, emulator, "la57=1" * five), claim))
    return total


def modes_kvm_tally(
    count: int | None,
    progress: Progress | None = None,
    emulator: Emulator = USUAL,
    line: str = kernels.DEFAULT,
) -> Tally:
    """What L1 gets from the KVM of L0's kernel for the same cases."""
    total = Tally()
    for part in build_modes(count).parts(MODES_AT_ONCE):
        found = run_modes_under_kvm(part, progress, line, emulator)
        model = kvm_model(found.session, found.chosen, BOCHSES[emulator.version]).model
        total.add(judge_modes(found.run, UnderKvm(model.kvm)))
    return total


def kvm_features_tally(
    count: int | None,
    progress: Progress | None = None,
    emulator: Emulator = USUAL,
    line: str = kernels.DEFAULT,
) -> Tally:
    """The features that a KVM offers to L1."""
    scenario = build_features(count, KVM_GROUPS)
    found = run_features_under_kvm(scenario, line, progress, emulator)
    model = kvm_model(found.session, found.chosen, BOCHSES[emulator.version]).model
    tally = judge_features(found.run, UnderKvm(model.kvm))
    tally.skipped = found.run.skipped
    return tally


def kvm_tally(
    count: int | None,
    progress: Progress | None = None,
    emulator: Emulator = USUAL,
    line: str = kernels.DEFAULT,
) -> Tally:
    """What the KVM of L0's kernel injects, against the model that is probed from that kernel."""
    found = run_kvm(count, progress, line, emulator)
    model = kvm_model(found.session, found.chosen, BOCHSES[emulator.version]).model
    return prove(found.run, UnderKvm(model.kvm))


#: By oracle: the processor, with its features off and on, and its IRETs; each kernel's KVM, of
#: which the default kernel's is called "kvm"; and each KVM with features.
TALLIES: dict[str, Callable[..., Tally]] = {
    "bare": bare_tally,
    "pairs": pairs_tally,
    "features": features_tally,
    "iret": iret_tally,
    "modes": modes_tally,
    "stacks": stacks_tally,
    "kvm": kvm_tally,
    "modes-kvm": modes_kvm_tally,
    **{
        f"{oracle}-{line}": partial(tally, line=line)
        for oracle, tally in (("kvm", kvm_tally), ("modes-kvm", modes_kvm_tally))
        for line in kernels.KERNELS
        if line != kernels.DEFAULT
    },
    **{f"features-{line}": partial(kvm_features_tally, line=line) for line in kernels.KERNELS},
}
ORACLES = ("bare", "features", "modes", "kvm")  # asked if none is named


def named(oracle: str, emulator: Emulator) -> str:
    """The oracle as the table calls it: the usual emulator needs no name."""
    return oracle if emulator == USUAL else f"{oracle}, Bochs {emulator.version} as {emulator.cpu}"


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
        "--only",
        type=_oracles,
        default=ORACLES,
        metavar="LIST",
        help=f"oracles, with commas between them, of {', '.join(TALLIES)} (the usual: "
        f"{', '.join(ORACLES)})",
    )
    parser.add_argument("--bochs", choices=VERSIONS, default=INSTALLED, help="its version")
    parser.add_argument(
        "--cpu", default=SKYLAKE, metavar="MODEL", help=f"of Bochs' processors ({SKYLAKE})"
    )
    parser.add_argument("--write", action="store_true", help=f"write the counts to {TABLE.name}")
    parsed = parser.parse_args(arguments)
    emulator = Emulator(parsed.bochs, parsed.cpu)
    status = 0
    try:
        for oracle in parsed.only:
            status |= _prove(oracle, parsed.set, parsed.write, emulator)
    except LabError as error:
        sys.stderr.write(f"prove: {error}\n")
        return 1
    return status


def _oracles(written: str) -> tuple[str, ...]:
    """Raises ArgumentTypeError."""
    found = tuple(written.split(","))
    for each in found:
        if each not in TALLIES:
            raise argparse.ArgumentTypeError(f"there is no oracle '{each}'")
    return found


def _prove(oracle: str, name: str, write: bool, emulator: Emulator) -> int:
    start = time.monotonic()
    kind = next(kind for kind in (oracle, oracle.rpartition("-")[0]) if kind in SETS[name])
    count = SETS[name][kind]
    tally = TALLIES[oracle](count, for_stream(sys.stderr), emulator)
    oracle = named(oracle, emulator)
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
    for mode, count in _by_mode(tally.cases).items():
        print(f"{count:8} {_by_mode(tally.wrong)[mode]:6}           of {mode}")
    print(f"{sum(tally.cases.values()):8} {sum(tally.wrong.values()):6}           in all")
    if tally.skipped:
        print(f"{tally.skipped:8}                  skipped: this processor does not offer it")
    for rule, groups in sorted(tally.deviations.items()):
        print(f"{sum(groups.values()):24}  {rule}")


def _by_mode(groups: Counter[str]) -> Counter[str]:
    """Of the groups that are told apart by L2's paging mode."""
    found: Counter[str] = Counter()
    for group, count in groups.items():
        _, comma, mode = group.partition(", ")
        if comma:
            found[mode] += count
    return found


def _write(oracle: str, name: str, tally: Tally) -> None:
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    table.setdefault(oracle, {})[name] = tally.table
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
