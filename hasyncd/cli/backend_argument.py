"""What the verbs share that speak of one backend: which one, and where."""

from __future__ import annotations

import argparse
import re
from typing import Final

from hasyncd.cli.client import add_target_arguments

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smh]?)\Z")


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """`BACKEND`, `--service` and the daemon that is meant."""
    parser.add_argument("backend", metavar="BACKEND", type=int, help="its id in the configuration")
    parser.add_argument("--service", metavar="NAME", help="in this service only; else in all that have it")
    add_target_arguments(parser)


def seconds(text: str) -> float:
    """`90`, `90s`, `5m`, `2h`. Raises ArgumentTypeError."""
    found = _DURATION.match(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"a duration such as 90s, 5m or 2h, not {text!r}")
    return float(found[1]) * _UNITS[found[2]]
