"""Log lines for machines and for people."""

from __future__ import annotations

import enum
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from hasyncd.runtime import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Role(enum.Enum):
    PRIMARY = "primary"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_json_where_no_terminal_is() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    structlog.get_logger().info("role changed", role=Role.PRIMARY, seed=b"\x01\xff", generation=7)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "event": "role changed",
        "level": "info",
        "role": "primary",
        "seed": "01ff",
        "generation": 7,
    }


def test_text_on_a_terminal() -> None:
    stream = Terminal()
    logs.configure(stream)
    structlog.get_logger().warning("peer lost", node="gw-b")
    (line,) = stream.getvalue().splitlines()
    assert "peer lost" in line
    assert "gw-b" in line
    assert not line.startswith("{")


def test_libraries_speak_the_same_form() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    logging.getLogger("asyncio").error("Task %s was destroyed", "x")
    entry = json.loads(stream.getvalue())
    assert (entry["event"], entry["level"]) == ("Task x was destroyed", "error")


def test_an_exception_is_one_line_of_json() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_value"] == "broken"


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    logs.configure(stream)
    structlog.get_logger().debug("noise")
    logs.configure(stream, level=logging.DEBUG)
    structlog.get_logger().debug("wanted")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["wanted"]
