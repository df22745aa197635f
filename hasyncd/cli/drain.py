"""`hasyncd drain BACKEND`: it keeps its flows and gets no new ones, so that it can be taken away."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from hasyncd.cli.backend_argument import add_backend_arguments, seconds
from hasyncd.cli.client import ask, target_socket
from hasyncd.cli.command import command

_LOOK_S: Final = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_backend_arguments(parser)
    parser.add_argument(
        "--timeout",
        metavar="DURATION",
        type=seconds,
        help="end what is left after so long (90s, 5m; 0: never); without it, the service's drain_timeout_s",
    )
    parser.add_argument("--wait", action="store_true", help="return when its last flow has gone")


def run(args: argparse.Namespace) -> int:
    path = target_socket(args)
    code = command(path, "drain", backend=args.backend, service=args.service, timeout_s=args.timeout)
    return _wait(path, args.backend, args.service) if code == 0 and args.wait else code


def _wait(path: Path, backend: int, service: str | None) -> int:
    """1: somebody took it in again meanwhile."""
    told = -1
    while True:
        items, code, message = ask(path, "status")
        if code != 0:
            print(message, file=sys.stderr)
            return code
        rows = [
            row
            for each in items[0]["services"]
            if service in (None, each["name"])
            for row in each["backends"]
            if row["id"] == backend
        ]
        if any(row["state"] in ("up", "slow-start") for row in rows):
            print(f"backend {backend} is not drained any more", file=sys.stderr)
            return 1
        flows = sum(row["flows"] for row in rows)
        if flows != told:
            print(f"{flows} {'flow is' if flows == 1 else 'flows are'} left", flush=True)
            told = flows
        if not flows:
            return 0
        time.sleep(_LOOK_S)
