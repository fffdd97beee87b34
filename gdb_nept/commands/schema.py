# SPDX-License-Identifier: GPL-2.0-or-later
"""nept schema"""

from __future__ import annotations

from argparse import Namespace
from typing import TextIO

from gdb_nept.commands.arguments import argument
from gdb_nept.commands.catalogue import PREFIX
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.shell_only import shell_command
from gdb_nept.render import schemas
from gdb_nept.render.page import Status


@shell_command("schema", argument("name", nargs="?", metavar="COMMAND"))
def schema(context: DumpContext, args: Namespace, stream: TextIO) -> Status:
    """Print the JSON Schema of what a command answers with --json.

    Usage: nept schema [COMMAND]

    The key "schema" of an answer names it, with its version: "nept-walk/1".  Within a version keys
    are only added.  Where a command writes lines (--json-lines), "$defs/line" is that of one.
    "answers" is that of a line of predict --json-lines.  Without COMMAND the names are listed.

    Example:
      $ nept schema walk
    """
    if args.name is None:
        stream.write("\n".join(schemas.names()) + "\n")
    else:
        name: str = args.name
        bare = name[len(PREFIX) :] if name.startswith(PREFIX) else name
        stream.write(schemas.schema(bare))
    return Status.DONE
