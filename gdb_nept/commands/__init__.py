# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user types.  A command is a declaration, a manual, and a few lines.

* `command`: what one is; `arguments` and `numbers`: how it is read; `context`: where it runs;
  `output` and `progress`: how the answer leaves; `written`: registers in an expression
* `catalogue`: all of them, in gdb and on the shell: `target`, `vms`, `vmcs12`, `ept`, `walk`,
  `predict`, `check`, `watch` (`fault_log`), `diff`, `regs`, `x`, `who`, `decode`, `scan`,
  `compare`, `map`, `export`
* on the shell: `terminal` (one question), `shell_only`: `shell` (`prompt`), `triage` (`many`,
  `bar`), `schema`; `json_lines`; `dump_context`: what is asked there
* in gdb: `gdb/` registers all, with `settings`, `functions` and `dump_in_gdb`
* `first_steps`: what to type first; `spoken`: how a command is called where it runs
"""
