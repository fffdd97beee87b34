# SPDX-License-Identifier: GPL-2.0-or-later
"""nept triage"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterable
from typing import TextIO

from gdb_nept.commands.arguments import argument
from gdb_nept.commands.bar import Bar
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.many import Job, here, on_dask
from gdb_nept.commands.numbers import Usage
from gdb_nept.commands.output import NotWritten
from gdb_nept.commands.shell_only import shell_command
from gdb_nept.errors import NeptError
from gdb_nept.judge.triage import triage as looked_at
from gdb_nept.render.page import Status, gravest
from gdb_nept.render.schemas import LIVE
from gdb_nept.render.triage import failed_data, triage_data


@shell_command(
    "triage",
    argument("--jobs", type="count", default=os.cpu_count() or 1, metavar="N"),
    argument("--timeout", type="count", default=300, metavar="SECONDS"),
    argument("--dask", metavar="ADDRESS"),
    argument("files", nargs="*", type="file", metavar="FILE"),
)
def triage(context: DumpContext, args: Namespace, stream: TextIO) -> Status:
    """Tell of each of many dumps, in a line of JSON, what is wrong in it.

    Usage: nept [--btf FILE] triage [--jobs N] [--timeout SECONDS] [--dask ADDRESS] FILE...
           nept [--btf FILE] --dump FILE triage

    A line has the kernel, its VMs, and of each vCPU in VMX operation the exit that L1 saw last, the
    verdict of check, that of walk for the address of that exit, and what else contradicts
    ("anomalies"); "missing" says what could not be told, and why.  "nept schema triage" has all.

    Each FILE is read by a process of its own, SECONDS long at most (300); one that is damaged has
    a line as well, and the others theirs.  The lines stand in the order of the files.  --jobs N
    reads N at once (as many as there are processors).

    --dask ADDRESS has the workers of a Dask cluster read them, which see the files by the same
    names and have gdb_nept installed (the extra "dask").

    The exit status is the gravest of all: 3 if something differs, is stale or broken in one of
    them, 1 if one could not be read at all, 5 if a part could not, 0 otherwise.

    Examples:
      $ nept triage /var/crash/*/vmcore > found.jsonl
      $ nept triage --dask tcp://10.0.0.1:8786 /dumps/*.raw
    """
    if not args.files:
        if context.dump is None and not context.live:
            raise Usage("there is no dump to look at", "Name them: nept triage FILE...")
        found = data_of(context)
        return _put([json.dumps(found)], stream)
    files = [str(file) for file in args.files]
    bar = Bar(len(files))
    library = str(context.library or "")
    job = Job(tuple(map(str, context.btf)), args.timeout, library)
    lines = on_dask(args.dask, job, files, bar) if args.dask else here(job, files, args.jobs, bar)
    try:
        return _put(lines, stream)
    finally:
        bar.clear()


def data_of(context: DumpContext) -> dict[str, object]:
    """Of one dump, in this process."""
    file = str(context.dump) if context.dump else "/proc/kcore"
    try:
        session = context.session()
        found = triage_data(file, context.kernel().release, looked_at(session))
    except NeptError as error:
        found = failed_data(file, "unreadable", Status.NOT_FOUND, error)
    return {**found, LIVE: True} if context.taken.live else {**found}


def _put(lines: Iterable[str], stream: TextIO) -> Status:
    ends = set()
    for line in lines:
        ends.add(Status(json.loads(line)["status"]))
        try:
            stream.write(line + "\n")
            stream.flush()
        except OSError as error:
            raise NotWritten(error, left=isinstance(error, BrokenPipeError)) from None
    return gravest(ends)
