"""`hasyncd events`: follows the daemon until it ends or the reader has seen enough."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any, Final

from hasyncd.cli.client import Answer, add_target_arguments, target_socket

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d{1,7})([smhd]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 10m, 2h or 1d")
    return int(found[1]) * _UNITS_S[found[2] or "s"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--since",
        type=_duration,
        metavar="DURATION",
        help="first what the daemon keeps of so long ago (its last 512 events), such as 10m",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="NAME",
        help="only these; 'path_*' is all that begin so. Names: deploy/events.md",
    )
    parser.add_argument("--no-follow", action="store_true", help="end after what is kept")


def run(args: argparse.Namespace) -> int:
    request = {"verb": "events", "types": args.type, "since_s": args.since, "follow": not args.no_follow}
    with Answer(target_socket(args), request, timeout_s=None) as answer:
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
        return value if value.replace("_", "").isalnum() else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
