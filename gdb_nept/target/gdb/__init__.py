# SPDX-License-Identifier: GPL-2.0-or-later
"""What gdb is attached to: behind the ports of target/, all that asks gdb about its target.

`connection`: is there one, and can it be asked; `stub`: its memory; `debugger`: types and symbols
of a vmlinux; `remote`: the machine; `events`: that it ran or stopped; `runner`: let it run.

Nothing is ever written: memory is read with m packets, and `maint packet` sends nothing but the
three packets of physical memory mode (memory/qemu.py).
"""
