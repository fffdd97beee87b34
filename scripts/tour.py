# SPDX-License-Identifier: GPL-2.0-or-later
"""The tour of scripts/demo: snapshot, replay in QEMU, and a stock gdb that runs our commands.

gdb's own configuration is not read.  Arguments are options of `scripts/lab snapshot`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bochs_lab.replay import Replay

HERE = Path(__file__).resolve().parent
TREE = HERE.parent


def main() -> int:
    start = time.monotonic()
    snapshot = taken(sys.argv[1:])
    if snapshot is None:
        return 1
    sys.path.insert(0, str(HERE))
    from bochs_lab.replay import Replay

    with Replay(snapshot) as machine:
        status = toured(machine, tour(snapshot))
    print(f"\nThat took {time.monotonic() - start:.0f} s; the snapshot stays in {snapshot}")
    print("To go on by hand: scripts/lab replay, which prints what to type into gdb.")
    return status


def taken(options: list[str]) -> Path | None:
    """The lab's snapshot, booted first if there is none; None if that failed (and was told)."""
    words = [str(HERE / "lab"), "snapshot", *options]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    return None if done.returncode else Path(done.stdout.split()[-1])


def tour(snapshot: Path) -> list[str]:
    """The commands to show, with addresses that L1 itself named in its log."""
    said = json.loads((snapshot / "facts.json").read_text())
    mapped = next(line["page"]["l2gpa"] for line in said if line.get("page", {}).get("by") == "l2")
    return [
        "nept-target",
        "nept-vms",
        "nept-vmcs12 ept_pointer secondary_vm_exec_control guest_cr3 guest_rip",
        f"nept-ept {mapped}+128K",
        f"nept-walk {mapped}",
        f"nept-walk {_gpa(said, '4k-hole/read')}",
        f"nept-walk {_gpa(said, 'protected-table-clear/write/ad')}",
        f"nept-decode qualification {_qualification(said, 'protected-table-clear/write/ad')}",
    ]


def _exit(said: list[dict[str, str]], case: str) -> dict[str, str]:
    return next(line for line in said if line.get("case") == case and "exit" in line)


def _gpa(said: list[dict[str, str]], case: str) -> str:
    return _exit(said, case)["gpa"]


def _qualification(said: list[dict[str, str]], case: str) -> str:
    return _exit(said, case)["qualification"]


def toured(machine: Replay, commands: list[str]) -> int:
    """Run the commands in a stock gdb attached to the replay, each after its own echo."""
    words = ["gdb", "-nx", "-q", "-batch", "-ex", "set pagination off"]
    for line in [*machine.gdb_lines(), f"source {TREE / 'gdb_nept' / 'init.py'}"]:
        words += ["-ex", f"echo (gdb) {line}\\n", "-ex", line]
    for line in commands:
        words += ["-ex", f"echo \\n(gdb) {line}\\n", "-ex", line]
    return subprocess.run(words, cwd=TREE, env={**os.environ, "LC_ALL": "C.UTF-8"}).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
