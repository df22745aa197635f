"""`hasyncd events`: follows the daemon until it ends or the reader has seen enough."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from hasyncd.cli.client import Answer, add_target_arguments, target_socket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    with Answer(target_socket(args), {"verb": "events"}, timeout_s=None) as answer:
        for event in answer:
            print(json.dumps(event) if args.json else line(event), flush=True)
    if answer.message:
        print(answer.message, file=sys.stderr)
    return answer.exit_code or 0


def line(event: dict[str, Any]) -> str:
    """`TIME NAME key=value …`, for people."""
    rest = {key: value for key, value in event.items() if key not in ("time", "event")}
    details = "  ".join(f"{key}={_value(value)}" for key, value in rest.items() if value not in (None, ""))
    return f"{event.get('time', '')}  {event.get('event', '')!s:<20}  {details}".strip()


def _value(value: object) -> str:
    if isinstance(value, str):
        return value if value.replace("_", "").isalnum() else json.dumps(value)
    return json.dumps(value)
