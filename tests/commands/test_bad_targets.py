# SPDX-License-Identifier: GPL-2.0-or-later
"""What is not there gets a clear message, and nothing else is lost: on real machines.

A machine in its firmware, and a stub that goes away, are in tests/gdb.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions

pytestmark = pytest.mark.bochs

NO_GUESTS = Path(__file__).resolve().parents[1] / "data" / "no-guests"


def nept(memory: Path, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command on a raw image."""
    done = subprocess.run(
        [sys.executable, "-m", "gdb_nept", "--dump", str(memory), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def without_vm() -> Path:
    return lab.ensure(LabOptions(overlay=NO_GUESTS, park="l1-exit")) / "memory.raw"


@pytest.fixture(scope="module")
def without_kvm() -> Path:
    return lab.ensure(LabOptions(overlay=NO_GUESTS, park="l2")) / "memory.raw"


def test_a_kernel_with_no_kvm_module(without_kvm: Path) -> None:
    for command in (("vms",), ("walk", "0x1000"), ("vmcs12",), ("ept",)):
        status, _, errors = nept(without_kvm, *command)
        assert status == 1
        assert "kvm module is not loaded" in errors
    status, output, _ = nept(without_kvm, "target")
    assert status == 0
    assert "Linux 6." in output


def test_a_host_with_no_vm(without_vm: Path) -> None:
    status, output, _ = nept(without_vm, "vms")
    assert status == 0
    assert "no VM" in output
    for command in (("walk", "0x1000"), ("vmcs12",), ("ept",)):
        status, _, errors = nept(without_vm, *command)
        assert status == 1
        assert "no VM runs on this host" in errors


def test_a_vm_without_nested_state(plain_snapshot: Path) -> None:
    memory = plain_snapshot / "memory.raw"
    for command in (("vmcs12",), ("ept",), ("walk", "0x1000")):
        status, _, errors = nept(memory, command[0], "--vm", "1", *command[1:])
        assert status == 1
        assert "VM 1, vCPU 0 has no nested state" in errors


def test_an_address_out_of_range(plain_snapshot: Path) -> None:
    memory = plain_snapshot / "memory.raw"
    status, output, _ = nept(memory, "walk", hex(1 << 48))
    assert status == 0  # it is a result: EPT12 does not translate it
    assert "beyond" in output
    status, _, errors = nept(memory, "walk", hex(1 << 64))
    assert status == 2
    assert "64" in errors


@pytest.mark.parametrize("megabytes", [1, 40, 90])
def test_a_truncated_snapshot(plain_snapshot: Path, tmp_path: Path, megabytes: int) -> None:
    short = tmp_path / "short.raw"
    with (plain_snapshot / "memory.raw").open("rb") as whole:
        short.write_bytes(whole.read(megabytes << 20))
    status, output, errors = nept(short, "walk", "0x2000000")
    assert status == 1 or "unreadable" in output
    assert "truncated" in output + errors or "no Linux kernel" in errors
