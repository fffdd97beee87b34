# SPDX-License-Identifier: GPL-2.0-or-later
"""See bochs.py."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "scripts")]

from bochs_lab import bare  # noqa: E402
from bochs_lab.emulator import INSTALLED, SKYLAKE, VERSIONS, Emulator  # noqa: E402

from tests.features.run import prepared  # noqa: E402
from tests.findings.bochs import scenario  # noqa: E402
from tests.findings.told import Shown, shown  # noqa: E402


def in_words(one: Shown) -> str:
    finding = one.finding
    lines = [
        f"{finding.title}",
        f"  the manual: {finding.manual}",
        f"  the code:   {finding.where}",
        f"  expected:   {one.manual}",
        f"  got:        {one.got}" + ("" if one.differs else "   (as expected: not shown here)"),
    ]
    return "\n".join(textwrap.fill(line, 100, subsequent_indent=" " * 14) for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="findings", description="Deviations of Bochs, shown.")
    parser.add_argument("--bochs", choices=VERSIONS, default=INSTALLED, help="its version")
    parser.add_argument("--cpu", default=SKYLAKE, metavar="MODEL", help="of Bochs' processors")
    parser.add_argument("--iso", type=Path, metavar="FILE", help="write the machine's CD, no more")
    parsed = parser.parse_args()
    if parsed.iso:
        with tempfile.TemporaryDirectory() as folder:
            options = bare.BareOptions(prepared(scenario()), image="features.elf")
            shutil.copy(bare.make_iso(Path(folder), options), parsed.iso)
        return 0
    for one in shown(Emulator(parsed.bochs, parsed.cpu)):
        print(in_words(one), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
