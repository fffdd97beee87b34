# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m gdb_nept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gdb_nept import __version__
from gdb_nept.__main__ import main
from gdb_nept.commands.catalogue import all_commands
from gdb_nept.commands.spoken import OF_GDB
from gdb_nept.render.page import MEANINGS

ROOT = Path(__file__).resolve().parents[2]


def test_decode_needs_no_dump(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "exit-reason", "48"]) == 0
    assert "EPT violation" in capsys.readouterr().out


def test_decode_knows_the_qualification_of_an_apic_access(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["decode", "apic-access", "0x1300", "0x5300", "--json"]) == 0
    write, none = json.loads(capsys.readouterr().out)["words"]
    assert write["meaning"] == "a data write at offset 0x300 of the APIC-access page"
    assert (write["problem"], bool(none["problem"])) == (None, True)


@pytest.mark.parametrize("name", ["decode", "nept-decode"])
def test_names_with_and_without_prefix(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "eptp", "0x105e", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == "0x105e"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["nonsense"], 2, "there is no command 'nonsense'"),
        (["decode", "ept"], 2, "required: VALUE"),
        (["decode", "ept", "x"], 2, "'x' is not a number"),
        (["vms"], 2, "needs a dump"),
        (["target"], 2, "needs a dump"),
        (["--dump", "/nonsense", "vms"], 1, "cannot open /nonsense"),
        (["--dump", "/nonsense", "target"], 1, "cannot open /nonsense"),
    ],
)
def test_errors_and_exit_statuses(
    words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("written", "meant"),
    [("trage", "triage"), ("shel", "shell"), ("shema", "schema"), ("wlak", "walk")],
)
def test_a_misspelt_command_is_told_what_it_may_mean(
    written: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that gdb does not have; all are listed."""
    assert main([written]) == 2
    said, offered, *rest = capsys.readouterr().err.splitlines()
    assert said == f"gdb_nept: there is no command '{written}'"
    assert offered.startswith(f"Did you mean {meant}")
    assert {"walk", "triage", "shell", "schema"} <= {line.split()[0] for line in rest}


@pytest.mark.parametrize("name", ["walk", "triage"])
def test_help_is_asked_as_in_gdb(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", name]) == main([name, "--help"]) == 0
    twice = capsys.readouterr().out
    assert twice == twice[: len(twice) // 2] * 2
    assert main(["help"]) == 0
    assert "Where to begin" in capsys.readouterr().out
    assert main(["help", "nonsense"]) == 2


@pytest.mark.parametrize("option", ["--dump", "--live", "--btf", "--libkdumpfile"])
def test_what_stands_before_the_command_is_told_to(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([option, "x", "0x1000"], [f"{option}=x"]):
        assert main(["walk", *words]) == 2
        said, how = capsys.readouterr().err.splitlines()
        assert said == f"gdb_nept: {option} stands before the command"
        assert how.startswith(f"nept {option}")
        assert how.endswith("walk ...")


@pytest.mark.parametrize(
    "words",
    [
        *([option, "", "vms"] for option in ("--dump", "--btf", "--libkdumpfile")),
        *(["triage", "a", ""], ["map", "--output", ""], ["export", "--l1", "--output", ""]),
        ["watch", "--json-lines", ""],
    ],
    ids=" ".join,
)
def test_an_empty_name_of_a_file_is_told(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not that the folder we are in is no dump."""
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("gdb_nept: the name of a file is empty\n")


def test_a_dump_without_linux(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = tmp_path / "memory.raw"
    dump.write_bytes(bytes(1 << 20))
    assert main(["--dump", str(dump), "vms"]) == 1
    assert "no Linux kernel" in capsys.readouterr().err
    assert main(["--dump", str(dump), "target", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["kernel"] is None
    assert "no Linux kernel" in found["missing"][0]["what"]


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: nept " in shown
    assert re.search(r"^walk +Follow", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 80
    assert all(f"{one.value:3}  {said}" in shown for one, said in MEANINGS.items())


def test_on_the_shell_a_manual_speaks_of_nept(capsys: pytest.CaptureFixture[str]) -> None:
    for one in all_commands():
        assert main([one.name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"Usage: nept {one.name[5:]} " in shown
        assert "nept-" not in shown
        assert ("(gdb)" in shown) is (one.name[5:] in OF_GDB)
    assert main(["walk", "-h"]) == 0
    assert "$ nept --dump FILE walk 0x7f3000\n" in capsys.readouterr().out


def test_on_the_shell_an_error_does_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walk"]) == 2
    shown = capsys.readouterr().err
    assert "gdb_nept: nept walk: the following arguments are required: ADDRESS" in shown
    assert "'nept walk --help' shows what it takes" in shown


def test_the_version() -> None:
    assert run("--version").stdout == f"nept {__version__}\n"


def test_several_words_are_decoded_one_after_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = []
    for words in (["0x7"], ["0x6"], ["0x7", "0x6"]):
        assert main(["decode", "ept", *words]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[2] == f"{shown[0]}\n{shown[1]}"
    assert main(["decode", "ept", "0x7", "0x6", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)["words"]
    for found, word in zip(both, ("0x7", "0x6")):
        assert main(["decode", "ept", word, "--json"]) == 0
        assert found == json.loads(capsys.readouterr().out)


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gdb_nept", *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_colour_where_there_is_no_terminal() -> None:
    assert "\x1b" not in run("decode", "eptp", "0x105e").stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    line = f"{sys.executable} -m gdb_nept decode ept 7 --all | true"
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_blocked_libraries_make_plain_output_and_no_error() -> None:
    code = (
        "import sys; sys.modules['tabulate'] = sys.modules['pygments'] = None\n"
        "from gdb_nept.__main__ import main\n"
        "sys.exit(main(['decode', 'ept', '0x337']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == run("decode", "ept", "0x337").stdout


def test_advice_is_broken_into_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = tmp_path / "memory.raw"
    dump.write_bytes(bytes(1 << 20))
    assert main(["--dump", str(dump), "vms"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("gdb_nept: no Linux kernel")
    assert len(lines) > 1
    assert max(map(len, lines)) <= 100
