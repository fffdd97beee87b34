# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents that are made of the code: manuals of the commands, models, schemas, man page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from gdb_nept.__main__ import command_line
from gdb_nept.commands.catalogue import PREFIX, all_commands
from gdb_nept.commands.shell_only import NAMES, shell_command_named
from gdb_nept.commands.spoken import on_the_shell, shell_manual
from gdb_nept.predict.case import BOCHS, BOCHS_3, Deviation
from gdb_nept.predict.kvm import KERNELS, Habit
from gdb_nept.predict.xen import Rule
from gdb_nept.render import schemas
from gdb_nept.render.manual import fitted
from gdb_nept.render.page import MEANINGS

MAN = 73  # columns that man(1) has behind its indent
MADE = "<!-- made of the code; tests/documents/generated.py -->\n"


def commands_page() -> str:
    parts = [
        MADE,
        "# The commands\n",
        "In gdb each is as it stands here, and `help nept-walk` shows the same. On the shell it is",
        "`nept --dump FILE walk ...`, and `nept walk --help`. All take `--json`.\n",
    ]
    for one in all_commands():
        parts += [f"## {PREFIX}{one.name.replace(PREFIX, '')}\n", *_fenced(one.manual)]
    parts += ["# On the shell alone\n"]
    for shell in filter(None, map(shell_command_named, NAMES)):
        parts += [f"## nept {shell.name}\n", *_fenced(shell.manual)]
    return _text(parts)


def models_page() -> str:
    parts = [
        MADE,
        "# The models, and their rules\n",
        "`--model` names who makes the exit. `sdm` is the processor of the SDM, and has no rule of",
        "its own; each other is told by where it departs from that. On a live host or a dump,",
        "`kvm` is the KVM that is there, by what its types tell, not by its version.\n",
        "## What each KVM does since some release\n",
        "A KVM stands for its release and those after it, up to the next here, and does all that",
        "those before it do; but 6.12.117 is a stable release, and what came with it is in 6.13 to",
        "7.1 not by itself. Files are in `arch/x86/kvm`.\n",
    ]
    before: frozenset[object] = frozenset()
    for name, features in KERNELS.items():
        gained = [one for one in features if one not in before]
        parts += [f"### {name}\n", *_rules(sorted(gained, key=_order))]
        if not gained:
            parts += ["As the one before.\n" if before else "None of what follows.\n"]
        before = frozenset(features)
    parts += ["## What every KVM does otherwise than the processor\n", *_rules(Habit)]
    parts += ["## What Xen does otherwise than the processor (`xen`)\n", *_rules(Rule)]
    for bochs in (BOCHS, BOCHS_3):
        parts += [f"## Where {bochs.name} departs from the SDM\n"]
        parts += _rules(one for one in Deviation if one in bochs)
    parts += [
        "## v2-2012\n",
        "The series of 2012 that was never merged in that form: it put the page fault's error code",
        "where the exit qualification belongs, and set no guest-linear address.\n",
    ]
    return _text(parts)


def schemas_page() -> str:
    parts = [
        MADE,
        "# What `--json` answers\n",
        "`nept schema NAME` prints a schema (JSON Schema, draft 2020-12); an answer's key `schema`",
        "names it with its version. All are closed: a key that a schema lacks is a mistake. Within",
        "a version keys are only added.\n",
        "| name | what it is of | in an answer |",
        "|---|---|---|",
    ]
    for name in schemas.names():
        found = json.loads(schemas.schema(name))
        title = str(found["title"]).replace("|", "\\|")
        keys = ", ".join(f"`{key}`" for key in _keys(found))
        parts.append(f"| [`{name}`](../schemas/{name}.json) | {title} | {keys} |")
    return _text(parts)


def man_page() -> str:
    """nept(1), in the man macros."""
    parts = [
        '.\\" made of the code; tests/documents/generated.py',
        ".TH NEPT 1",
        ".SH NAME",
        "nept \\- decode, walk and check nested EPT of a Linux KVM host",
        ".SH SYNOPSIS",
        ".B nept",
        "[\\fIOPTION\\fR]... [\\fICOMMAND\\fR [\\fIARGUMENT\\fR]...]",
        ".SH DESCRIPTION",
        "Reads a dump of the host's physical memory, or the running host's, from outside, and",
        "never writes to it.  In gdb the same commands are called nept\\-walk and so on.",
        ".SH OPTIONS",
    ]
    for option in command_line()._actions:
        if option.option_strings and option.help:
            flags = ", ".join(option.option_strings)
            value = f" \\fI{option.metavar}\\fR" if option.metavar else ""
            parts += [".TP", f"\\fB{_roff(flags)}\\fR{value}", _roff(option.help)]
    parts += [".SH COMMANDS"]
    for one in all_commands():
        bare = one.name.replace(PREFIX, "")
        parts += [f".SS nept {bare}", *_as_it_stands(fitted(shell_manual(one.manual), MAN))]
    for shell in filter(None, map(shell_command_named, NAMES)):
        parts += [f".SS nept {shell.name}", *_as_it_stands(fitted(on_the_shell(shell.manual), MAN))]
    parts += [".SH EXIT STATUS"]
    for status, said in MEANINGS.items():
        parts += [".TP", str(status.value), _roff(said)]
    parts += [".SH SEE ALSO", ".BR gdb (1),", ".BR crash (8),", ".BR makedumpfile (8)"]
    return _text(parts)


#: By the name of the file in gdb_nept/doc.
PAGES = {
    "commands.md": commands_page,
    "models.md": models_page,
    "schemas.md": schemas_page,
    "nept.1": man_page,
}


def _rules(rules: Iterable[Enum]) -> Iterator[str]:
    found = [f"* `{one.name}`: {str(one.value).replace('*', chr(92) + '*')}" for one in rules]
    yield from [*found, ""] if found else []


def _order(rule: Enum) -> int:
    return list(type(rule)).index(rule)


def _keys(schema: dict[str, Any]) -> list[str]:
    """Those at the top of an answer, of the first kind that there is."""
    one = schema
    while "properties" not in one:
        if "$ref" in one:
            one = schema["$defs"][one["$ref"].rpartition("/")[2]]
        else:
            one = next(one[key][0] for key in ("oneOf", "anyOf", "allOf") if key in one)
    return list(one["properties"])


def _fenced(manual: str) -> list[str]:
    return ["```text", manual, "```\n"]


def _as_it_stands(manual: str) -> list[str]:
    return [".nf", *map(_roff, manual.splitlines()), ".fi"]


def _roff(line: str) -> str:
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _text(parts: Iterable[str]) -> str:
    return "\n".join(parts).rstrip("\n") + "\n"
