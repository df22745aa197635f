"""deploy/status.schema.json: what real nodes say fits it, and it describes every key that they say and no other."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from hasyncd.config_routes import Routes
from hasyncd.core.types import MergeFindings, MergeReport, Role, WitnessView
from hasyncd.runtime.clock import now_ns
from hasyncd.runtime.route_driver import RouteDriver
from hasyncd.runtime.status import _merge
from tests.cli.daemon import STATUS
from tests.deploy.make_references import DEPLOY
from tests.runtime.pair import Member, members, synced_pair, until
from tests.runtime.test_status import KEYS

SCHEMA: Final[dict[str, Any]] = json.loads((DEPLOY / "status.schema.json").read_text())
ELSEWHERE: Final = {"routes", "witness", "sync.merge"}
"""Filled in by nodes with a routing daemon, a witness, or a split behind them."""


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, but a key that it does not describe is an error. (Published, it lets keys be added.)"""
    made = copy.deepcopy(schema)
    for part in objects(made):
        part.setdefault("additionalProperties", False)
    return made


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)


def status(member: Member) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(json.dumps(member.report.build(member.shell.port_counters)))
    return said


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}".lstrip(".")
            if key != "counters":
                yield from keys_of(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, path)


def described(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, part in schema.get("properties", {}).items():
        here = f"{path}.{key}".lstrip(".")
        yield here
        yield from described(part.get("items", part), here)


def check(said: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(strict(SCHEMA)).validate(said)


async def test_what_nodes_say_in_every_role_fits_and_every_described_key_is_said(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    said: set[str] = set()
    async with members(tmp_path) as (a, _):
        check(status(a))
    async with synced_pair(tmp_path) as (a, b):
        a.open_flow(0)
        await until(lambda: b.table[0] == 1, "b has it")
        a.shell.command_resync(False)
        await until(lambda: b.view.sync.least_syncs == 1 and a.ready and b.ready, "compared")
        a.node.receive_datagram(b"\xc1", now_ns())
        for member in (a, b):
            check(status(member))
            said |= set(keys_of(status(member)))
        a.die()
        await until(lambda: b.node.role is Role.PRIMARY, "b is primary")
        check(status(b))
        said |= set(keys_of(status(b)))
    wanted = {path for path in described(SCHEMA) if not any(path.startswith(f"{e}.") for e in ELSEWHERE)}
    assert said == wanted


async def test_what_few_nodes_have_is_described_too() -> None:
    def properties(*path: str) -> set[str]:
        part = SCHEMA
        for key in path:
            part = part["properties"][key]
        return set(part["properties"])

    fields = {field.name for field in dataclasses.fields(WitnessView)}
    assert properties("witness") == fields | {"kind", "key"}
    assert properties("sync", "merge") == _merge(MergeReport(1, MergeFindings())).keys()
    routes = RouteDriver(Routes(driver="frr", prefixes=("198.51.100.7/32",)), lambda name, detail: None)
    jsonschema.Draft202012Validator(strict(SCHEMA["properties"]["routes"])).validate(routes.view())


def test_the_fixed_keys_are_required() -> None:
    for part, keys in KEYS.items():
        schema = SCHEMA["properties"][part] if part else SCHEMA
        assert keys <= set(schema["required"])


def test_every_key_says_what_it_means() -> None:
    for part in objects(SCHEMA):
        for key, described_key in part["properties"].items():
            assert described_key["description"].endswith("."), key


@pytest.mark.parametrize(
    "change", [{"role": "master"}, {"generation": "7"}, {"flows": None}, {"fitness": -1}, {"vips": {}}]
)
async def test_what_is_otherwise_does_not_fit(tmp_path: Path, change: dict[str, Any]) -> None:
    async with members(tmp_path) as (a, _):
        with pytest.raises(jsonschema.ValidationError):
            check(status(a) | change)


def test_the_published_schema_lets_keys_be_added_and_the_command_lines_tests_speak_it() -> None:
    published = jsonschema.Draft202012Validator(SCHEMA)
    missing = {error.validator for error in published.iter_errors(STATUS | {"new": 1})}
    assert missing <= {"required"}, "the fake daemon's status is a part of a real one"
