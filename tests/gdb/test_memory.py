# SPDX-License-Identifier: GPL-2.0-or-later
"""How memory is read, in a real gdb on a real QEMU: chosen, forced, lost, interrupted.

The machines have nothing but their firmware; searching their large memory for a kernel takes long.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pexpect
import pytest

from tests.gdb.batch import INIT, ROOT
from tests.gdb.machine import stopped_machine
from tests.gdb.relay import Relay

pytestmark = [pytest.mark.gdb, pytest.mark.qemu]

MODE = "maint packet qqemu.PhyMemMode"
QEMU = "qemu-system-x86_64"
BIG = ("-m", "6G")
SOON = 0.5  # seconds for Ctrl-C
Gdb = Callable[..., str]


def shared(file: Path, share: str = "on") -> tuple[str, ...]:
    backend = f"memory-backend-file,id=r0,size=64M,mem-path={file},share={share}"
    mark = ("-device", f"loader,file={INIT},addr=0x100000,force-raw=on")
    return ("-m", "64M", "-object", backend, "-machine", "memory-backend=r0", *mark)


def objects(output: str) -> list[str]:
    """The JSON objects in an output, without their outer brackets."""
    return [each.partition("\n}")[0] for each in f"\n{output}".split("\n{")[1:]]


def words(output: str) -> str:
    return " ".join(output.split())


@pytest.fixture
def child() -> Iterator[pexpect.spawn[str]]:
    """gdb on a terminal, with our commands."""
    one = pexpect.spawn(
        "gdb", ["-nx", "-q"], timeout=30, encoding="utf-8", env={**os.environ, "TERM": "dumb"}
    )
    one.sendline("set confirm off")
    one.sendline(f"source {INIT}")
    yield one
    one.sendline("quit")
    one.expect(pexpect.EOF)


def attach(child: pexpect.spawn[str], port: int) -> None:
    child.sendline(f"target remote 127.0.0.1:{port}")
    child.expect("0x000000000000fff0 in")


def test_the_way_is_told_with_why_not_a_faster_one(gdb: Gdb, firmware: tuple[str, int]) -> None:
    with Relay(firmware) as relay:
        connect = f"target remote 127.0.0.1:{relay.port}"
        output = gdb(
            connect,
            *("nept-target --json", "show nept memory", "set nept memory phymem"),
            *("nept-target --json", "show nept memory", "set nept memory file", "nept-target"),
        )
    first, second = (json.loads("{" + each + "}") for each in objects(output))
    assert (first["transport"], first["not_used"]) == ("process", [])
    assert second["transport"] == "phymem"
    assert "by: auto; used now: process memory of qemu-system-x86" in output
    assert "by: phymem; used now: QEMU's physical memory mode" in output
    assert "through a shared memory-backend-file: the machine has none" in words(output)
    assert "Traceback" not in output


def test_a_shared_file_is_mapped(gdb: Gdb, tmp_path: Path) -> None:
    file = tmp_path / "ram"
    with stopped_machine(QEMU, *shared(file)) as port, Relay(("127.0.0.1", port)) as relay:
        output = gdb(
            "set nept memory file", f"target remote 127.0.0.1:{relay.port}", "nept-target", MODE
        )
    assert f"memory: shared file {file}, 64 MiB of RAM and ROM" in words(output)
    assert 'received: "0"' in output
    assert not relay.kinds & set("MXPGcCsS")


def test_a_file_is_used_where_it_is_named(gdb: Gdb, tmp_path: Path) -> None:
    file, moved = tmp_path / "ram", tmp_path / "moved"
    with stopped_machine(QEMU, *shared(file)) as port:
        file.rename(moved)
        with Relay(("127.0.0.1", port)) as relay:
            output = gdb(
                *("set nept memory file", f"target remote 127.0.0.1:{relay.port}", "nept-target"),
                *(f"set nept memory-file {moved}", "nept-target", "show nept memory-file"),
            )
    first, second = words(output).split("memory: ")[1:]
    assert f"cannot map {file}" in first
    assert "set nept memory-file PATH" in first
    assert second.startswith(f"shared file {moved},")
    assert f"RAM to be in: {moved}" in second


def test_a_private_file_is_not(gdb: Gdb, tmp_path: Path) -> None:
    machine = stopped_machine(QEMU, *shared(tmp_path / "ram", "off"))
    with machine as port, Relay(("127.0.0.1", port)) as relay:
        output = gdb("set nept memory file", f"target remote 127.0.0.1:{relay.port}", "nept-target")
    assert "privately (share=off)" in words(output)


def test_a_unix_socket_and_a_pipe_lead_to_their_process(gdb: Gdb, tmp_path: Path) -> None:
    path = tmp_path / "stub"
    with stopped_machine(QEMU, path=path):
        assert "memory:   process memory of qemu" in gdb(f"target remote {path}", "nept-target")
    pipe = f"target remote | exec {QEMU} -S -nodefaults -display none -accel tcg -m 4 -gdb stdio"
    assert "memory:   process memory of qemu" in gdb(pipe, "nept-target", "kill")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_qemu_is_told_and_read_by_its_stub(firmware: tuple[str, int]) -> None:
    nobody = pwd.getpwnam("nobody")
    line = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    line += ["env", "HOME=/nonexistent", "gdb", "-nx", "-batch"]
    with Relay(firmware) as relay, tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # our own tree may lie where nobody else may look
        shutil.copytree(INIT.parent, Path(folder) / "gdb_nept")
        line += ["-ex", f"source {folder}/gdb_nept/init.py"]
        line += ["-ex", f"target remote 127.0.0.1:{relay.port}", "-ex", "nept-target"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert "memory:   QEMU's physical memory mode" in done.stdout
    assert "it belongs to user 0, has more rights" in words(done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take /proc away")
def test_where_proc_is_not_mounted_the_stub_is_read(firmware: tuple[str, int]) -> None:
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    allowed = subprocess.run([*hidden, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("a mount namespace cannot be made here")
    line = [*hidden, "gdb", "-nx", "-batch", "-ex", f"source {INIT}"]
    line += ["-ex", f"target remote 127.0.0.1:{firmware[1]}", "-ex", "nept-target"]
    line += ["-ex", "nept-vms", "-ex", "disconnect"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert "memory:   QEMU's physical memory mode" in done.stdout
    assert "/proc cannot be read here" in words(done.stdout)
    assert "no Linux kernel" in words(done.stderr)  # nept-vms reads, too
    assert "mistake" not in done.stderr


def test_ctrl_c_in_a_search_through_the_process(child: pexpect.spawn[str]) -> None:
    with stopped_machine(QEMU, *BIG) as port:
        attach(child, port)
        child.sendline("nept-vms")
        child.expect("searching for the kernel")
        time.sleep(0.5)
        child.kill(signal.SIGINT)
        started = time.monotonic()
        child.expect("nept-vms: interrupted")
        child.expect(r"\(gdb\) ")
        assert time.monotonic() - started < SOON
        child.sendline(MODE)
        child.expect('received: "0"')


def test_a_qemu_that_is_killed_in_mid_command_and_another_after_it(
    child: pexpect.spawn[str],
) -> None:
    for _ in range(2):
        with stopped_machine(QEMU, *BIG) as port:
            attach(child, port)
            child.sendline("nept-vms")
            child.expect("searching for the kernel")
            os.kill(_listener(port), signal.SIGKILL)
            child.expect(
                r"qemu-system-x86 \(process \d+\) has ended\r\nAttach again: target remote"
            )
            child.sendline("nept-vms")
            child.expect(r"the target does not answer|not attached")
            child.sendline("disconnect")
    with stopped_machine(QEMU) as port:
        attach(child, port)
        child.sendline("nept-vms")
        child.expect("no Linux kernel in the target's physical memory")
        child.sendline(MODE)
        child.expect('received: "0"')


def _listener(port: int) -> int:
    """The QEMU that was told this port."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (folder / "cmdline").is_file():
            line = (folder / "cmdline").read_bytes().split(b"\0")
            if QEMU.encode() in line and f"tcp:127.0.0.1:{port}".encode() in line:
                return int(folder.name)
    raise AssertionError("no such QEMU")


@pytest.mark.parametrize("name", ["l0-kvm.cfg", "l0-shared-memory.cfg", "snapshot-replay.cfg"])
def test_documented_configurations_are_taken_by_qemu(tmp_path: Path, name: str) -> None:
    """KVM, which not every computer has, is replaced by TCG, and the memory by little."""
    text = (ROOT / "qemu-configs" / name).read_text().replace('"kvm"', '"tcg"')
    text = text.replace("/dev/shm/l0-memory", str(tmp_path / "ram"))
    for size in ("4G", "2G"):
        text = text.replace(f'"{size}"', '"64M"')
    (tmp_path / name).write_text(text)
    more = ["-object", "memory-backend-ram,id=ram0,size=64M"] if "replay" in name else []
    if more:
        more += ["-m", "64M"]
    with stopped_machine(QEMU, "-readconfig", str(tmp_path / name), *more, plain=False) as port:
        line = ["gdb", "-nx", "-batch", "-ex", f"source {INIT}"]
        line += ["-ex", f"target remote 127.0.0.1:{port}", "-ex", "nept-target", "-ex", "kill"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert "64 MiB of RAM and ROM" in " ".join(done.stdout.split())
    assert shutil.which(QEMU)
