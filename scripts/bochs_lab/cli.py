# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of the lab: what each command does, and what it prints."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, Optional

from . import (
    bare,
    guests,
    image,
    kgdb,
    kgdb_kernel,
    linux_l1,
    machine,
    replay,
    replays,
    runtime,
    snapshot,
)
from .arguments import add_own_options, shaping_options
from .emulator import Emulator
from .errors import LabError
from .options import LabOptions, Timeouts
from .progress import Lines, for_stream

COMMANDS = Path(__file__).resolve().parents[2] / "gdb_nept" / "init.py"

_DESCRIPTION = """\
A real nested VMX state on any machine: a Debian kernel with KVM (L0) runs in
Bochs, which emulates VMX with EPT; a small hypervisor (L1) and its guest (L2)
run on it and stop at a park point. The machine can be kept up, or its memory
taken as a snapshot and replayed in QEMU, behind a gdbstub. What was built or
taken once is kept in ~/.cache/gdb_nept/lab.
"""
_EPILOG = """\
The last line on standard output is the answer (a path, a status); progress
goes to standard error. Exit status: 0 done, 1 not (with the reason), 130 after
Ctrl-C.
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Do one command; its exit status."""
    parsed = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    teller = for_stream(sys.stderr)
    try:
        status: int = parsed.run(parsed, teller)
        return status
    except LabError as error:
        teller.finish()
        sys.stderr.write(f"lab: {error}\n")
        return 1
    except KeyboardInterrupt:
        teller.finish()
        sys.stderr.write("lab: interrupted\n")
        return 130
    except BrokenPipeError:  # as in: lab status | head -1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        teller.finish()


def _interrupted(number: int, frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt


def _say(teller: Lines, text: str) -> None:
    teller.finish()
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _build(parsed: argparse.Namespace, teller: Lines) -> int:
    """Build the kernel, the guests and the boot CD"""
    _say(teller, str(image.image(_options(parsed, teller), teller).iso))
    return 0


def _up(parsed: argparse.Namespace, teller: Lines) -> int:
    """Boot a machine and keep it parked in the background"""
    options = _options(parsed, teller)
    wanted = image.image(options, teller)
    status = machine.status()
    if status is None:
        status = machine.up(replace(options, refresh=False), teller)
    elif status["snapshot_key"] != wanted.snapshot_key:
        raise LabError("another machine is up; end it first: lab down")
    _say(teller, _machine_line(status))
    return _stub(parsed, teller) if parsed.stub or parsed.gdb_port or parsed.kgdb else 0


def _stub(parsed: argparse.Namespace, teller: Lines) -> int:
    """Put the machine that is up behind a gdb stub; what to type into gdb"""
    port = machine.stub(parsed.gdb_port)
    status = machine.ask("status")
    if status["vmlinux"]:
        lines = kgdb.gdb_lines(status["vmlinux"], port, status["text"])
    else:
        lines = replay.Stub(port).gdb_lines()
    _tell_gdb(teller, lines)
    return 0


def _tell_gdb(teller: Lines, lines: Sequence[str]) -> None:
    """What to type into gdb, the target last, and how to leave it."""
    for line in (f"source {COMMANDS}", *lines):
        _say(teller, line)
    teller.stage("leave gdb with `disconnect`: detach, and quit, let the machine run on")


def _kernel(parsed: argparse.Namespace, teller: Lines) -> int:
    """Build a kernel with kgdb, and tell where its vmlinux is"""
    if not parsed.kgdb:
        raise LabError("Debian's own kernels are fetched by `lab build`; to build one: --kgdb")
    _say(teller, str(kgdb_kernel.vmlinux(kgdb_kernel.kernel(teller, parsed.refresh))))
    return 0


def _snapshot(parsed: argparse.Namespace, teller: Lines) -> int:
    """Take a snapshot, or tell where the one of these options is"""
    taken = snapshot.ensure(_options(parsed, teller), teller, parsed.force)
    if parsed.output is not None:
        snapshot.copy(taken, parsed.output)
        taken = parsed.output
    _say(teller, str(taken))
    return 0


def _bare(parsed: argparse.Namespace, teller: Lines) -> int:
    """Run L1 alone, with no L0 under it, and tell where its memory is kept"""
    built = guests.guests(parsed.guests, teller)
    wanted = bare.BareOptions(built, parsed.words, "states.elf" if parsed.states else "l1.elf")
    wanted = replace(wanted, emulator=Emulator(parsed.bochs, parsed.cpu))
    _say(teller, str(bare.ensure(wanted, teller)))
    return 0


def _overlay(parsed: argparse.Namespace, teller: Lines) -> int:
    """Build an overlay with another L1, for --overlay; it stops at the park point l1"""
    _say(teller, str(linux_l1.overlay(parsed.kernel, teller)))
    return 0


def _replay(parsed: argparse.Namespace, teller: Lines) -> int:
    """Put a snapshot behind QEMU's gdbstub"""
    taken = parsed.snapshot or snapshot.ensure(_options(parsed, teller), teller)
    stub = replays.stub(parsed.gdb_port, parsed.gdb_socket)
    with replays.started(taken, stub, parsed.detach) as started:
        _tell_gdb(teller, started.gdb_lines())
        if parsed.detach:
            return 0
        teller.stage("Ctrl-C ends the replay")
        try:
            return started.wait()
        except KeyboardInterrupt:  # the way to end it
            return 0


def _status(parsed: argparse.Namespace, teller: Lines) -> int:
    """Tell what is up"""
    booting = runtime.holder("machine")
    parked = machine.status()
    running = replays.running()
    if parsed.json:
        known = {"machine": parked, "booting": booting if parked is None else None}
        taken = [str(path) for path in snapshot.known()]
        _say(teller, json.dumps({**known, "replays": running, "snapshots": taken}, indent=1))
        return 0
    if parked is not None:
        _say(teller, _machine_line(parked))
    else:
        _say(
            teller,
            _no_machine() if booting is None else f"a machine is booting (pid {booting})",
        )
    for each in running:
        _say(teller, f"replay of {each['snapshot']}: target remote {each['target']}")
    for path in snapshot.known():
        _say(teller, f"snapshot {path}: {snapshot.summary(path)}")
    return 0


def _down(parsed: argparse.Namespace, teller: Lines) -> int:
    """End the machine and every replay"""
    runtime.last_words().unlink(missing_ok=True)
    ended = machine.down()
    count = replays.end_all()
    runtime.sweep()
    _say(teller, f"{'ended the machine' if ended else 'no machine was up'}; ended {count} replays")
    return 0


def _machine_line(status: dict[str, Any]) -> str:
    state = f"is parked at {status['park']}" if status["park"] else "stands"
    words = f"{status['release']} {'runs' if status['running'] else state}"
    words += f" (Bochs is pid {status['bochs_pid']})"
    if status["gdb_port"] is None:
        return words
    attached = "; a debugger is attached" if status["gdb_attached"] else ""
    return f"{words}; gdb stub on port {status['gdb_port']}{attached}"


def _no_machine() -> str:
    ended = runtime.last_words()
    return "no machine is up" + (
        f"; the last: {ended.read_text()}".rstrip() if ended.exists() else ""
    )


def _options(parsed: argparse.Namespace, teller: Lines) -> LabOptions:
    timeouts = Timeouts(parsed.boot_timeout, parsed.park_timeout)
    names = {option.name for option in fields(LabOptions)} & set(vars(parsed))
    options = LabOptions(**{name: getattr(parsed, name) for name in names}, timeouts=timeouts)
    return linux_l1.with_linux_l2(options, teller) if parsed.l2 == "linux" else options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    shaped = shaping_options()
    for run in (_build, _kernel, _up, _stub, _snapshot, _bare, _overlay, _replay, _status, _down):
        name = run.__name__.strip("_")
        parents = [shaped] if run in (_build, _up, _snapshot, _replay) else []
        command = commands.add_parser(
            name, parents=parents, help=run.__doc__, description=run.__doc__
        )
        command.set_defaults(run=run)
        add_own_options(name, command)
    return parser
