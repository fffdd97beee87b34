# SPDX-License-Identifier: GPL-2.0-or-later
"""The schemas themselves, and what needs no machine to be held against them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from gdb_nept.__main__ import main
from gdb_nept.arch.words import WORDS
from gdb_nept.commands import catalogue
from gdb_nept.commands.json_lines import serve
from gdb_nept.judge.candidates import Lead
from gdb_nept.judge.check import Finding
from gdb_nept.kvm.authority import Authority
from gdb_nept.nested.agreement import Agreement, Fault
from gdb_nept.predict.access import Op, Stage
from gdb_nept.predict.outcome import Outcome
from gdb_nept.render import schemas
from gdb_nept.walk.result import Cause
from tests.schemas import hold, validator


def test_each_command_has_one() -> None:
    assert {*catalogue.NAMES, "answers"} <= set(schemas.names())


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_one_and_names_its_version(name: str) -> None:
    validator(name)
    whole = json.loads(schemas.schema(name))
    assert whole["$id"] == f"urn:gdb_nept:{name}:{schemas.VERSION}"
    assert whole["title"]


@pytest.mark.parametrize("name", schemas.names())
def test_nothing_goes_that_is_not_written_down(name: str) -> None:
    """Each object of a schema is closed, and says which keys are always there."""
    for place, found in objects(json.loads(schemas.schema(name))):
        assert "additionalProperties" in found, place
        assert set(found.get("required", ())) <= set(found.get("properties", ()))


def objects(node: Any, place: str = "") -> list[tuple[str, dict[str, Any]]]:
    if isinstance(node, list):
        return [one for item in node for one in objects(item, place)]
    if not isinstance(node, dict):
        return []
    own = [(place, node)] if node.get("type") == "object" else []
    return own + [one for key, item in node.items() for one in objects(item, f"{place}/{key}")]


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("walk", Agreement),
        ("walk", Fault),
        ("walk", Cause),
        ("watch", Agreement),
        ("compare", Agreement),
        ("compare", Fault),
        ("predict", Op),
        ("predict", Stage),
        ("predict", Outcome),
        ("answers", Outcome),
        ("check", Finding),
        ("vmcs12", Authority),
    ],
)
def test_the_values_that_a_key_can_have_are_those_there_are(name: str, members: Any) -> None:
    wanted = [one.value for one in members]
    assert wanted in enums(json.loads(schemas.schema(name)))


def test_the_leads_of_a_check_are_told_by_name() -> None:
    wanted = [one.name.lower() for one in Lead]
    assert wanted in enums(json.loads(schemas.schema("check")))


def enums(node: Any) -> list[list[Any]]:
    """Every list of values, without null."""
    if isinstance(node, list):
        return [one for item in node for one in enums(item)]
    if not isinstance(node, dict):
        return []
    own = [[value for value in node["enum"] if value is not None]] if "enum" in node else []
    return own + [one for item in node.values() for one in enums(item)]


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("values", [["0"], ["0xffffffffffffffff"], ["7", "0x1aa"]])
def test_decode(kind: str, values: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ([], ["--all"]):
        assert main(["decode", kind, *values, *extra, "--json"]) == 0
        hold("decode", json.loads(capsys.readouterr().out))


def test_target_where_there_is_none(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "memory.raw").write_bytes(bytes(1 << 20))
    assert main(["--dump", str(tmp_path / "memory.raw"), "target", "--json"]) == 1
    hold("target", json.loads(capsys.readouterr().out))


def test_answers_to_requests() -> None:
    memory = {"0x1000": "0x2007", "0x2000": "0x3007", "0x3000": "0x4007", "0x4028": "0x1024035"}
    access = {"gpa": "0x5108", "op": "write"}
    whole = {"eptp": "0x101e", "ept_caps": "0xf0106734141", "maxphyaddr": 39, "mbec": False}
    requests = [
        {"id": 1, **whole, "memory": memory, "access": access},
        {"id": "b", **whole, "memory": memory, "access": {**access, "op": "read", "odd": 1}},
        {**whole, "memory": {}, "access": access},
        {"id": 2, "eptp": "0x101e"},
    ]
    out = io.StringIO()
    serve(["--json-lines"], io.BytesIO("\n".join(map(json.dumps, requests)).encode()), out)
    lines = out.getvalue().splitlines()
    assert len(lines) == len(requests)
    for line in lines:
        hold("answers", json.loads(line))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out.split() == schemas.names()
    for name in ("walk", "nept-walk"):
        assert main(["schema", name]) == 0
        assert capsys.readouterr().out == schemas.schema("walk")
    assert main(["schema", "../data/vmcs12"]) == 2
    assert "there is no schema" in capsys.readouterr().err
