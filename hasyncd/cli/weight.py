"""`hasyncd weight BACKEND WEIGHT`: another share of the new flows, until both nodes have restarted."""

from __future__ import annotations

import argparse

from hasyncd.cli.backend_argument import add_backend_arguments
from hasyncd.cli.client import target_socket
from hasyncd.cli.command import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_backend_arguments(parser)
    parser.add_argument(
        "weight", metavar="WEIGHT", type=_weight, help="1 to 256, or `configured` for that of the file"
    )


def run(args: argparse.Namespace) -> int:
    return command(
        target_socket(args), "weight", backend=args.backend, service=args.service, weight=args.weight
    )


def _weight(text: str) -> int:
    if text == "configured":
        return 0
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"1 to 256, or `configured`, not {text!r}")
    return int(text)
