# SPDX-License-Identifier: GPL-2.0-or-later
"""Many dumps, each in a process of its own: what a library or we do with one costs no other.

The lines come in the order of the files, whatever ends first, and are the same over a Dask cluster.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdb_nept.errors import BadInput, NeptError
from gdb_nept.render.page import Status
from gdb_nept.render.triage import failed_data

PACKAGE = Path(__file__).resolve().parents[1]
CONNECT = 10.0  # seconds
Told = Callable[[], object]


@dataclass(frozen=True)
class Job:
    """How each of them is looked at, in `seconds` at most."""

    btf: tuple[str, ...] = ()
    seconds: float = 300.0
    library: str = ""  # libkdumpfile

    def line(self, file: str) -> str:
        """The line of JSON about one file, whatever happens."""
        options = [f"--btf={name}" for name in self.btf]
        options += [f"--libkdumpfile={self.library}"] if self.library else []
        words = [sys.executable, "-m", "gdb_nept", f"--dump={file}", *options, "triage"]
        found = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(PACKAGE.parent), *([found] if found else [])])
        try:
            done = subprocess.run(
                words,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            error = NeptError(f"no answer in {self.seconds:g} s", "Give it longer: --timeout")
            return _failed(file, "timed out", error)
        except (OSError, ValueError) as failure:
            return _failed(file, "crashed", NeptError(f"cannot be started: {failure}"))
        said = done.stdout.decode(errors="backslashreplace").strip()
        if "\n" not in said and said.startswith('{"schema"'):
            return said
        return _failed(file, "crashed", NeptError(_end(done)))


def _failed(file: str, outcome: str, error: NeptError) -> str:
    return json.dumps(failed_data(file, outcome, Status.NOT_FOUND, error))


def _end(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        number = -done.returncode
        names = {one.value: one.name for one in signal.Signals}
        return f"the process that read it was ended by {names.get(number, f'signal {number}')}"
    lines = done.stderr.decode(errors="backslashreplace").strip().splitlines()
    last = f": {lines[-1][:200]}" if lines else ""
    return f"the process that read it ended with status {done.returncode}{last}"


def here(job: Job, files: Sequence[str], at_once: int, told: Told) -> Iterator[str]:
    """On this machine, so many at once; `told` is called behind each that is done."""
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(job.line, file) for file in files]
        for future in futures:
            future.add_done_callback(lambda _: told())
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def on_dask(address: str, job: Job, files: Sequence[str], told: Told) -> Iterator[str]:
    """Over the cluster whose scheduler is there; its workers see the files by the same names, and
    have gdb_nept.  Raises BadInput."""
    try:
        import distributed
    except ImportError:
        advice = "pip install 'gdb_nept[dask]' installs it."
        raise BadInput("Dask is not installed here", advice) from None
    connect: Any = distributed.Client
    try:
        client: Any = connect(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"no Dask cluster at {address}: {error}") from None
    with client:
        futures = client.map(job.line, files, pure=False)
        for future in futures:
            future.add_done_callback(lambda _: told())
        for file, future in zip(files, futures):
            yield _of_worker(file, future)


def _of_worker(file: str, future: Any) -> str:
    error = future.exception()
    if error is None:
        return str(future.result())
    return _failed(file, "crashed", NeptError(f"its Dask worker failed: {error}"))
