# SPDX-License-Identifier: GPL-2.0-or-later
"""nept shell, at a terminal of its own and behind a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.prompt import Prompt, history_file

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "nept> "


class Terminal:
    """A shell at a terminal; its history is in `state`."""

    def __init__(self, state: Path, *words: str) -> None:
        variables = {**os.environ, "XDG_STATE_HOME": str(state), "TERM": "dumb", "NO_COLOR": "1"}
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "gdb_nept", *words, "shell"],
            cwd=str(ROOT),
            env=variables,
            encoding="utf-8",
            timeout=30,
            dimensions=(50, 200),
        )
        self.greeting = self.upto()

    def upto(self) -> str:
        self.child.expect_exact(PROMPT)
        return str(self.child.before)

    def ask(self, line: str) -> str:
        self.child.sendline(line)
        return self.upto()

    def typed(self, keys: str, appears: str) -> None:
        self.child.send(keys)
        self.child.expect_exact(appears)

    def interrupt(self) -> None:
        """Ctrl-C; again where it fell between two keys: Python waits for the next one then."""
        for _ in range(5):
            self.child.sendintr()
            if self.child.expect_exact([PROMPT, pexpect.TIMEOUT], timeout=5) == 0:
                return
        raise AssertionError("Ctrl-C does not leave the line")

    def end(self) -> int | None:
        self.child.expect(pexpect.EOF)
        self.child.close()
        status: int | None = self.child.exitstatus
        return status


def test_errors_stay_in_the_loop(tmp_path: Path) -> None:
    shell = Terminal(tmp_path)
    assert "no dump" in shell.greeting
    assert "there is no command 'nonsense'" in shell.ask("nonsense")
    assert "this command needs a dump" in shell.ask("walk 0x1000")
    assert "this line cannot be read" in shell.ask('decode "ept')
    assert "required: KIND, VALUE" in shell.ask("decode")
    assert "cannot open" in shell.ask("dump /nonsense")
    assert "EPT violation" in shell.ask("decode exit-reason 48")
    assert "EPT violation" in shell.ask("nept nept-decode exit-reason 48  # as pasted")
    assert "Usage: nept decode" in shell.ask("help decode")
    assert "vmcs12" in shell.ask("help")
    assert shell.ask("").strip() == ""
    shell.child.sendline("quit")
    assert shell.end() == 0


def test_ctrl_c_leaves_a_line_and_ctrl_d_ends(tmp_path: Path) -> None:
    shell = Terminal(tmp_path)
    shell.typed("decode exit-rea", "exit-rea")
    shell.interrupt()
    assert "EPT violation" in shell.ask("decode exit-reason 48")
    shell.child.sendeof()
    assert shell.end() == 0


def test_tab_completes_commands_options_and_values(tmp_path: Path) -> None:
    shell = Terminal(tmp_path)
    shell.typed("deco\t", "decode ")
    shell.typed("exit-r\t", "exit-reason ")
    shell.typed("48 --al\t", "--all ")
    assert "EPT violation" in shell.ask("")
    (tmp_path / "memory.raw").write_bytes(bytes(1 << 20))
    shell.typed(f"dump {tmp_path}/mem\t", "memory.raw ")
    assert "no Linux kernel" in shell.ask("")
    shell.child.sendeof()
    shell.end()


def test_lines_of_before_are_kept_for_the_next_session(tmp_path: Path) -> None:
    first = Terminal(tmp_path)
    first.ask("decode exit-reason 48")
    first.child.sendeof()
    first.end()
    kept = tmp_path / "gdb_nept" / "history"
    assert "decode exit-reason 48" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    second = Terminal(tmp_path)
    second.typed("\x1b[A", "decode exit-reason 48")
    assert "EPT violation" in second.ask("")
    second.child.sendeof()
    second.end()


def test_a_home_that_cannot_be_written_costs_the_history_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shell = Terminal(tmp_path / "file")
    assert "EPT violation" in shell.ask("decode exit-reason 48")
    shell.child.sendeof()
    assert shell.end() == 0


@pytest.mark.parametrize(
    ("lines", "status", "said"),
    [
        ("decode exit-reason 48\n", 0, "EPT violation"),
        ("decode exit-reason 48\nquit\nnonsense\n", 0, "EPT violation"),
        ("nonsense\ndecode exit-reason 48\n", 2, "EPT violation"),
        ("", 0, ""),
    ],
)
def test_behind_a_pipe_there_is_no_prompt(lines: str, status: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gdb_nept", "shell"],
        input=lines,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert said in done.stdout
    assert PROMPT not in done.stdout


def test_offers_before_and_behind_a_command() -> None:
    prompt = Prompt(DumpContext(None, ()), sys.stdout)
    assert prompt.offers([], "wa") == ["walk", "watch"]
    assert prompt.offers(["nept"], "vm") == ["vmcs12", "vms"]
    assert prompt.offers(["help"], "q") == []
    assert "--shadow" in prompt.offers(["ept"], "--")
    assert prompt.offers(["vmcs12"], "ept_p") == ["ept_pointer"]
    assert prompt.offers(["nonsense"], "x") == []


def test_help_and_misspelt_names_know_what_the_prompt_has_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompt = Prompt(DumpContext(None, ()), sys.stdout)
    prompt.answer("help")
    assert {"dump", "help", "quit", "walk"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line
    }
    prompt.answer("help dump")
    assert "goes on with another dump" in capsys.readouterr().out
    prompt.answer("dmup")
    assert "Did you mean dump?" in capsys.readouterr().err
    prompt.answer("triage")
    assert "nept triage --help" in capsys.readouterr().err
    prompt.answer("dump ''")
    assert "the name of a file is empty" in capsys.readouterr().err


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert history_file() == Path("/home/me/.local/state/gdb_nept/history")


@pytest.mark.bochs
def test_one_attach_answers_many_questions(plain_snapshot: Path, tmp_path: Path) -> None:
    shell = Terminal(tmp_path, "--dump", str(plain_snapshot / "memory.raw"))
    assert "Linux 6.1" in shell.greeting
    shell.ask("vms")
    start = time.monotonic()
    for number in range(20):
        assert "EPT02 RWX   agree" in shell.ask(f"walk {0x2000000 + number % 2 * 8:#x}")
    assert (time.monotonic() - start) / 20 < 0.5  # an attach alone takes longer
    shell.child.sendeof()
    assert shell.end() == 0


@pytest.mark.bochs
def test_ctrl_c_ends_an_answer_and_not_the_shell(plain_snapshot: Path, tmp_path: Path) -> None:
    shell = Terminal(tmp_path, "--dump", str(plain_snapshot / "memory.raw"))
    shell.child.sendline("walk " + " ".join(["0x2000000"] * 400))
    shell.child.expect_exact("EPT02 RWX   agree")
    shell.child.kill(signal.SIGINT)
    assert "gdb_nept: interrupted" in shell.upto()
    assert "EPT02 RWX   agree" in shell.ask("walk 0x2000000")
    shell.child.sendeof()
    assert shell.end() == 0
