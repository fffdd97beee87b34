# SPDX-License-Identifier: GPL-2.0-or-later
"""Values into pages: text, tables, JSON, pictures.  Nothing is read here.

Begin with `page`: what a command answers.  `text` and `table` draw it, `colour` paints it, `json`
and `schemas` are its data; `manual` is help in a terminal's columns, `units` and `instructions` are
ways to show bytes.

Each command's page has a file, by its name where it is one: `vms` (`slots`), `vmcs12`, `ept`
(`ept_totals`, `ept_derived`, `spte`), `journey` (nept-walk; `host`), `virtual` (with --virtual),
`prediction` (`prediction_data`), `check`, `watch` (`fault`), `diff`, `registers`, `examined`
(nept-x), `owners` (nept-who), `word` (nept-decode; `meaning`), `scan`, `compare`, `map_text` and
`map_html`, `export`, `target`, `triage`.
"""
