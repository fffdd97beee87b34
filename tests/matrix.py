# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of kernels and of what passed on them, as Markdown: a plugin of pytest (--matrix)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from bochs_lab import kernels, packages
from bochs_lab.progress import Silent

COLUMNS = {
    "walk": ("nested/test_lab.py", "nested/test_verdict.py", "kvm/test_kvm_in_lab.py"),
    "check": ("judge/test_check_in_lab.py",),
    "watch": ("live/test_watch_in_lab.py",),
    "states": (
        "nested/test_state_matrix.py",
        *(f"states/test_{name}.py" for name in ("states", "verdicts", "vmcs12", "watch")),
    ),
    "members": ("nested/test_missing_members.py",),
}


@dataclass(eq=False)  # a plugin is told from others by what it is
class Matrix:
    """Counts outcomes by kernel and column."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    lines: dict[str, str] = field(default_factory=dict)  # of a test, its kernel's line

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            call = getattr(item, "callspec", None)
            if call is not None and "kernel_line" in call.params:
                self.lines[item.nodeid] = call.params["kernel_line"]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One that fails in a fixture has no call."""
        column = column_of(report.nodeid)
        line = self.lines.get(report.nodeid)
        if column and line and (report.when == "call" or not report.passed):
            self.counts[line, column, report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("kernels")
        for row in self.rows():
            terminalreporter.write_line(row)

    def rows(self) -> list[str]:
        """The table.  A column that no test belongs to is left out."""
        seen = {column for _, column, _ in self.counts}
        columns = [column for column in COLUMNS if column in seen]
        rows = [["kernel", *columns], ["---"] * (len(columns) + 1)]
        for line in dict.fromkeys(line for line, _, _ in self.counts):
            rows.append([release(line), *(self.cell(line, column) for column in columns)])
        return [f"| {' | '.join(row)} |" for row in rows]

    def cell(self, line: str, column: str) -> str:
        told = {name: self.counts[line, column, name] for name in ("passed", "failed", "skipped")}
        return ", ".join(f"{count} {name}" for name, count in told.items() if count) or "none"


def column_of(node: str) -> str:
    """The column that a test belongs to, or ''."""
    file = node.split("::")[0]
    found = (column for column, files in COLUMNS.items() if file.endswith(files))
    return next(found, "")


def release(line: str) -> str:
    """The release of this line that the lab boots."""
    return packages.kernel(kernels.KERNELS[line], Silent()).release
