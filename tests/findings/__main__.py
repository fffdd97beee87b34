# SPDX-License-Identifier: GPL-2.0-or-later
"""Where released versions of Bochs, KVM and QEMU do otherwise than the SDM has it: each with the
one access that shows it.

    python -m tests.findings [--bochs 3.0 --cpu tigerlake]      Bochs
    python -m tests.findings --kvm 7.2 [--bochs ...]            the KVM of a kernel, in Bochs
    python -m tests.findings --qemu                             the QEMU that is installed

boots an L1 that makes these accesses and no others, and prints for each what the SDM has the
processor do, and what was seen.  With `--iso FILE` it writes the machine's CD instead, to be
booted anywhere; L1 then says the same on the serial line.  For KVM, on a machine with VMX:

    qemu-system-x86_64 -accel kvm -cpu host -display none -serial stdio -cdrom FILE
"""

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
from tests.findings import qemu  # noqa: E402
from tests.findings.finding import Finding, scenario  # noqa: E402
from tests.findings.kvm import RUN_ON  # noqa: E402
from tests.findings.told import Shown, of_bochs, of_kvm, shown, shown_by_kvm  # noqa: E402


def in_words(one: Shown) -> str:
    finding = one.finding
    lines = [
        f"{finding.title}",
        f"  the manual: {finding.manual}",
        f"  the code:   {finding.where}",
        f"  expected:   {finding.expected}",
        f"  got:        {one.got}" + ("" if one.differs else "   (as expected: not shown here)"),
    ]
    return "\n".join(textwrap.fill(line, 100, subsequent_indent=" " * 14) for line in lines)


def write_iso(findings: list[Finding], path: Path) -> None:
    """A CD whose L1 says each finding with what it got."""
    folder = prepared(scenario(findings))
    options = bare.BareOptions(folder, words="quiet=1 tell=1", image="features.elf")
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(bare.make_iso(Path(name), options), path)


def show_qemu(findings: list[Finding]) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_iso(findings, Path(name) / "cd")
        got = qemu.in_words(qemu.dumped(Path(name) / "cd", Path(name)))
    for one in (qemu.ADDRESS, qemu.REST):
        print(one.title, f"  the code:   {one.where}", f"  expected:   {one.expected}", sep="\n")
        print(f"  got:        {got}", end="\n\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="findings", description="Deviations of Bochs and of KVM from the SDM, shown."
    )
    parser.add_argument("--kvm", choices=RUN_ON, help="that of this kernel, in Bochs")
    parser.add_argument("--qemu", action="store_true", help="QEMU's dumps")
    parser.add_argument("--bochs", choices=VERSIONS, default=INSTALLED, help="its version")
    parser.add_argument("--cpu", default=SKYLAKE, metavar="MODEL", help="of Bochs' processors")
    parser.add_argument("--iso", type=Path, metavar="FILE", help="write the machine's CD, no more")
    parsed = parser.parse_args()
    findings = of_kvm(parsed.kvm) if parsed.kvm else of_bochs(parsed.bochs)
    if parsed.iso:
        write_iso(findings, parsed.iso)
        return 0
    if parsed.qemu:
        show_qemu(findings)
        return 0
    emulator = Emulator(parsed.bochs, parsed.cpu)
    found = shown_by_kvm(parsed.kvm, emulator) if parsed.kvm else shown(emulator, findings)
    for one in found:
        print(in_words(one), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
