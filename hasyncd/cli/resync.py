"""`hasyncd resync`: both nodes' tables are compared and what differs is sent anew, while traffic runs."""

from __future__ import annotations

import argparse

from hasyncd.cli.client import add_target_arguments, target_socket
from hasyncd.cli.command import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--full", action="store_true", help="send every flow anew, without a comparison")


def run(args: argparse.Namespace) -> int:
    return command(target_socket(args), "resync", full=args.full)
