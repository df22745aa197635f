"""`hasyncd switchover`: the planned way to move the addresses."""

from __future__ import annotations

import argparse

from hasyncd.cli.client import add_target_arguments, target_socket
from hasyncd.cli.command import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="also when the peer cannot be asked or is not in step; may lose flows",
    )


def run(args: argparse.Namespace) -> int:
    return command(target_socket(args), "switchover", force=args.force)
