# SPDX-License-Identifier: GPL-2.0-or-later
"""What to type first, for who has just come: in gdb, and in a shell."""

from __future__ import annotations

from gdb_nept.commands.catalogue import PREFIX, listing

IN_GDB = """\
Where to begin, with a host that ...
  is stopped in QEMU:  target remote HOST:PORT     (started with -s, or told
                       "gdbserver" at its monitor; stop it before you ask)
  is in kgdb:          target remote /dev/ttyS0, with the host's vmlinux loaded
  left a dump:         nept-dump FILE, or core-file FILE

Then
  nept-target             what is read, and what is missing
  nept-vms                which VMs there are, and which vCPU runs an L2
  nept-walk ADDRESS       where L2's address leads, and whether KVM agrees
  nept-check              whether L1 was told the exit that its tables call for
  nept-predict ADDRESS    the exit that an access must cause
  nept-watch              each EPT fault as it happens (not in a dump)

All commands; "help NAME" is the manual of one:
{commands}
  nept-dump     Ask the commands of a dump, not of what gdb is attached to
  nept-reload   Load gdb_nept's files again after they were changed

Settings: "show nept" lists them, "help set nept" says what they are for."""

IN_SHELL = """\
Where to begin, with a host that ...
  left a dump:                     nept --dump FILE vms
  is this computer:                nept --live vms   (as root, and it runs on)
  is stopped in QEMU, or in kgdb:  gdb, and at its prompt
                                   source {init}

Then
  nept --dump FILE target          what is read, and what is missing
  nept --dump FILE walk ADDRESS    where an L2 physical address leads
  nept --dump FILE check           whether L1 was told the right exit
  nept --dump FILE shell           one question after the other

All commands; "nept NAME --help" is the manual of one:
{commands}
{others}

"nept --help" tells the options and the exit statuses."""


def in_gdb() -> str:
    return IN_GDB.format(commands=_indented(listing(PREFIX)))


def in_shell(init: str, others: str) -> str:
    """`init` is the file that gdb sources, `others` list the commands that are no command of
    gdb's."""
    commands, rest = _indented(listing("")), _indented(others)
    return IN_SHELL.format(init=init, commands=commands, others=rest)


def _indented(lines: str) -> str:
    return "\n".join(f"  {line}" for line in lines.splitlines())
