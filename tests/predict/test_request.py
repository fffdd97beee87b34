# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON lines: the interface that other programs build on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdb_nept.commands.json_lines import serve
from gdb_nept.commands.numbers import Usage
from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer_lines
from tests.predict.tables import CAP, GLA, GPA, R, X
from tests.predict.tables import Path as Tables

ROOT = Path(__file__).parents[2]
KEYS = (
    "id", "outcome", "exit_reason", "exit_qualification", "qualification_mask",
    "guest_physical_address", "guest_linear_address", "hpa", "steps", "why", "change", "rules",
    "never_run",
    "entry_failure", "ignored",
)  # fmt: skip


def request(path: Tables, **changes: Any) -> dict[str, Any]:
    """A write to `path`'s page; None takes a key away."""
    made: dict[str, Any] = {
        "id": 1,
        "eptp": hex(path.eptp.value),
        "ept_caps": hex(CAP),
        "maxphyaddr": 39,
        "mbec": False,
        "memory": {hex(place): hex(word) for place, word in path.words.items()},
        "access": {"gpa": hex(GPA), "op": "write", "user": False, "stage": "final", "gla": GLA},
    }
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


def answers(lines: Iterable[Union[str, bytes]], name: str = "sdm") -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer_lines(lines, model(name))]


def answered(name: str = "sdm", **changes: Any) -> dict[str, Any]:
    path = Tables(rights={1: R | X})
    (found,) = answers([json.dumps(request(path, **changes))], name)
    return found


def access(**changes: Any) -> dict[str, Any]:
    return {"gpa": GPA, "op": "write", **changes}


def test_an_answer_has_every_key_in_one_order() -> None:
    found = answered()
    assert tuple(found) == KEYS
    assert found["outcome"] == "violation"
    assert (found["exit_reason"], found["exit_qualification"]) == (48, "0x1aa")
    assert found["qualification_mask"] == "0x1b1bf"
    assert found["guest_physical_address"] == hex(GPA)
    assert found["guest_linear_address"] == hex(GLA)
    assert (found["hpa"], found["entry_failure"], found["rules"]) == (None, None, [])
    assert [step["level"] for step in found["steps"]] == [4, 3, 2, 1]
    assert found["steps"][3]["entry"] == hex(Tables(rights={1: R | X}).entry(1))
    assert set(found["steps"][0]) == {"level", "address", "index", "entry"}


def test_a_translation_has_no_exit() -> None:
    found = answered(access=access(op="read"))
    assert (found["outcome"], found["hpa"]) == ("translated", "0x40000108")
    assert [found[key] for key in KEYS[2:7]] == [None] * 5


def test_memory_that_is_not_given_reads_as_zero() -> None:
    found = answered(memory={})
    assert (found["exit_qualification"], len(found["steps"])) == ("0x182", 1)


def test_numbers_are_hex_strings_decimal_strings_or_integers() -> None:
    plain = answered()
    numbers = {str(place): word for place, word in Tables(rights={1: R | X}).words.items()}
    assert (
        answered(memory=numbers, eptp=Tables().eptp.value, ept_caps=CAP, maxphyaddr="39") == plain
    )


@pytest.mark.parametrize("name", ["abc", "", 0, -1, 1 << 70, None])
def test_the_id_comes_back(name: object) -> None:
    line = json.dumps({**request(Tables()), "id": name})
    assert answers([line])[0]["id"] == name


def test_ids_may_repeat_and_order_is_kept() -> None:
    lines = [json.dumps(request(Tables(), id=name)) for name in (7, 7, 3)]
    assert [found["id"] for found in answers(lines)] == [7, 7, 3]


def test_the_model_decides() -> None:
    assert answered("v2-2012")["exit_qualification"] == "0x3"
    assert answered("bochs-2.7", access=access(op="rmw"))["rules"] == ["RMW_WRITE_ONLY"]
    emulated = answered("kvm-6.1", access=access(emulated=True))
    assert emulated["guest_physical_address"] == hex(GPA & ~0xFFF)


def test_controls() -> None:
    found = answered(access=access(op="read"), eptp=Tables(ad=True).eptp.value, pml_index=512)
    assert (found["outcome"], found["exit_reason"]) == ("pml_full", 62)
    assert answered(controls={"ve": True})["outcome"] == "ve"
    off = {"pml": False, "pml_index": 512}
    found = answered(access=access(op="read"), eptp=Tables(ad=True).eptp.value, controls=off)
    assert found["outcome"] == "translated"


def test_an_eptp_that_vm_entry_refuses_is_said() -> None:
    eptp = Tables().eptp.value & ~7
    found = answered(eptp=eptp)
    assert found["entry_failure"] == f"the EPTP {eptp:#x}: memory type UC is not supported"


def test_null_is_the_same_as_no_key() -> None:
    written = access(user=None, stage=None, gla=None, linear_writable=None)
    assert answered(access=written, controls=None, pml_index=None) == answered(access=access())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"eptp": None}, "eptp: missing"),
        ({"memory": None}, "memory: missing"),
        ({"access": None}, "access: missing"),
        ({"access": []}, "access: not an object"),
        ({"memory": "none"}, "memory: not an object"),
        ({"ept_caps": 1.5}, "ept_caps: 1.5 is not a number"),
        ({"ept_caps": True}, "ept_caps: True is not a number"),
        ({"eptp": -1}, "eptp: -1 is not a 64-bit number"),
        ({"eptp": 1 << 64}, "not a 64-bit number"),
        ({"eptp": "0x" + "f" * 5000}, "not a 64-bit number"),
        ({"eptp": "9" * 5000}, "eptp:"),
        ({"eptp": 0x1036}, "a page-walk length of 7"),
        ({"maxphyaddr": 53}, "maxphyaddr: 53 is not between"),
        ({"maxphyaddr": 0}, "maxphyaddr: 0 is not between"),
        ({"mbec": 1}, "mbec: 1 is neither true nor false"),
        ({"memory": {"0x1001": 0}}, "memory: 0x1001 is not a multiple of 8"),
        ({"memory": {"here": 0}}, "memory: 'here' is not a number"),
        ({"memory": {"0x1000": "x"}}, "0x1000: 'x' is not a number"),
        ({"memory": {"0x1000": 0, "4096": 1}}, "one address is given twice"),
        ({"memory": {"0x1000": "0", "4096": "1"}}, "one address is given twice"),
        ({"memory": {"0x8": "0", "0x10": "1_0"}}, "0x10: '1_0' is not a number"),
        ({"memory": {"0x8": "0", "0x10": ""}}, "0x10: '' is not a number"),
        ({"memory": {"": "0", "0x10": "0"}}, "memory: '' is not a number"),
        ({"memory": {"0x8": "\u0665", "0x10": "0"}}, "0x8: '\u0665' is not a number"),
        ({"memory": {"0x8": "0", "0x10": True}}, "0x10: True is not a number"),
        ({"memory": {"0x8": "0", "0x10": hex(1 << 64)}}, "is not a 64-bit number"),
        ({"memory": {"0x8": "0", hex(1 << 64): "0"}}, "is not a 64-bit number"),
        ({"access": access(op="jump")}, "op: 'jump' is none of read, write, fetch, rmw"),
        ({"access": access(op=None)}, "op: None is none of"),
        ({"access": access(stage="last")}, "stage: 'last' is none of"),
        ({"access": access(gpa=[])}, "gpa: [] is not a number"),
        ({"id": [1]}, "id: neither a string nor an integer"),
        ({"id": 1.5}, "id: neither a string nor an integer"),
        ({"id": True}, "id: neither a string nor an integer"),
        ({"eptp": "0x1_01e"}, "eptp: '0x1_01e' is not a number"),
        ({"access": access(gpa=" 0x5108")}, "gpa: ' 0x5108' is not a number"),
        ({"access": access(gpa="+5")}, "gpa: '+5' is not a number"),
        ({"access": access(gpa="\u0665")}, "is not a number"),
    ],
)
def test_bad_requests(changes: dict[str, Any], says: str) -> None:
    found = answered(**changes)
    assert set(found) == {"id", "error"}
    assert says in found["error"]
    assert len(found["error"]) < 300


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"eptp":', '"eptp": 0, "eptp":', "'eptp': given 2 times in one object"),
        ('"memory": {', '"memory": {"0x8": 1, "0x8": 2, "0x8": 3, ', "'0x8': given 3 times"),
        ('"op":', '"\\u001b[31m": 1, "\\u001b[31m": 2, "op":', "'\\x1b[31m': given 2 times"),
    ],
)
def test_a_key_that_is_given_twice_has_no_value(old: str, new: str, says: str) -> None:
    line = json.dumps(request(Tables())).replace(old, new, 1)
    (found,) = answers([line])
    assert found["id"] is None
    assert says in found["error"]


def test_keys_that_nobody_knows_are_told() -> None:
    found = answered(access=access(usr=True), controls={"sppt": 1}, comment="mine")
    assert found["ignored"] == ["access.usr", "controls.sppt"]
    assert found["outcome"] == answered()["outcome"]
    assert answered()["ignored"] == []


def test_keys_without_a_say_are_told() -> None:
    emulated, without_apic = access(emulated=True), {"tpr_shadow": True}
    with_apic = {**without_apic, "apic_access_address": "0x5000"}
    assert answered(access=emulated)["ignored"] == ["access.emulated"]
    assert answered("kvm-6.1", access=emulated)["ignored"] == []
    assert answered(access=access(emulated=False))["ignored"] == []
    assert answered(controls=without_apic)["ignored"] == ["controls.tpr_shadow"]
    assert answered(controls=with_apic)["ignored"] == []
    linear = {"gla": hex(GPA), "op": "read", "emulated": True}
    guest = {"cr0": 1, "cr3": 0, "cr4": 0}
    assert answered(guest=guest, access=linear)["ignored"] == ["access.emulated"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "null",
        "[]",
        '"text"',
        "{} {}",
        "NaN",
        '{"id": NaN}',
        '{"id": Infinity}',
        '{"id": 1e999}',
        '{"id": ' + "[" * 100000,
        "[" * 100000 + "]" * 100000,
        '{"id": 1' + "0" * 5000 + "}",
        b'{"id": "\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"\x00",
    ],
)
def test_lines_that_are_no_request(line: Union[str, bytes]) -> None:
    good = json.dumps(request(Tables(), id="good"))
    first, bad, last = answers([good, line, good])
    assert first == last
    assert first["id"] == "good"
    assert (bad["id"], "error" in bad) == (None, True)


def test_blank_lines_have_no_answer() -> None:
    assert answers(["", "\n", " \t\r\n", b"\n"]) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


@given(st.sampled_from(sorted(request(Tables()))), JSON)
def test_no_value_of_any_key_ends_the_stream(key: str, value: object) -> None:
    (found,) = answers([json.dumps({**request(Tables()), key: value})])
    assert ("error" in found) != ("outcome" in found)


@given(st.sampled_from(["gpa", "op", "user", "stage", "gla", "emulated"]), JSON)
def test_no_value_of_any_key_of_an_access_ends_the_stream(key: str, value: object) -> None:
    for name in ("sdm", "bochs-2.7", "kvm-6.1", "kvm-7.2", "v2-2012"):
        line = json.dumps(request(Tables(), access=access(**{key: value})))
        (found,) = answers([line], name)
        assert ("error" in found) != ("outcome" in found)


@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.lists(st.integers(0, (1 << 64) - 1), min_size=5, max_size=5),
    st.sampled_from(["sdm", "bochs-2.7", "kvm-4.9", "kvm-6.1", "kvm-7.2", "v2-2012"]),
)
def test_no_tables_end_the_stream(pointer: int, gpa: int, entries: list[int], name: str) -> None:
    path = Tables(levels=5, gpa=gpa & ((1 << 52) - 1))
    words = {hex(path.place(level)): entries[level - 1] for level in range(1, 6)}
    for eptp in (pointer, path.eptp.value):
        line = json.dumps(request(path, eptp=eptp, memory=words, access=access(gpa=gpa)))
        (found,) = answers([line], name)
        assert ("error" in found) != ("outcome" in found)


# -- the program --------------------------------------------------------------------------------


def test_serve_takes_its_options() -> None:
    line = json.dumps(request(Tables(rights={1: R | X}))).encode()
    out = io.StringIO()
    serve(["--json-lines", "--model", "v2-2012"], io.BytesIO(line), out)
    assert json.loads(out.getvalue())["exit_qualification"] == "0x3"
    with pytest.raises(Usage):
        serve(["--json-lines", "0x1000"], io.BytesIO(), io.StringIO())


def test_its_manual_fits_the_terminal() -> None:
    out = io.StringIO()
    serve(["--json-lines", "--help"], io.BytesIO(), out)
    assert max(map(len, out.getvalue().splitlines())) <= 80


def program(*words: str) -> list[str]:
    return [sys.executable, "-m", "gdb_nept", "predict", "--json-lines", *words]


def test_a_file_goes_in_and_a_file_comes_out(tmp_path: Path) -> None:
    good = json.dumps(request(Tables(rights={1: R | X})))
    source = tmp_path / "requests"
    source.write_bytes(f"{good}\n\n{{\n{good}\r\n".encode() + b"\xff\n" + good.encode())
    with source.open("rb") as requests:
        done = subprocess.run(program(), stdin=requests, capture_output=True, cwd=ROOT, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in one for one in found] == [False, True, False, True, False]
    assert done.stderr == b""


def test_each_answer_leaves_before_the_next_request_comes() -> None:
    line = json.dumps(request(Tables())) + "\n"
    with subprocess.Popen(
        program(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for _ in range(3):
            running.stdin.write(line)
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["outcome"] == "translated"
        running.stdin.close()
        assert running.wait(10) == 0


def test_a_model_that_there_is_not_is_a_message() -> None:
    done = subprocess.run(
        program("--model", "z80"), input=b"", capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"gdb_nept: there is no model 'z80'")


def test_a_reader_that_has_seen_enough_costs_no_traceback(tmp_path: Path) -> None:
    source = tmp_path / "requests"
    source.write_text((json.dumps(request(Tables())) + "\n") * 2000)
    command = f"{' '.join(program())} < {source} | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, cwd=ROOT, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""
