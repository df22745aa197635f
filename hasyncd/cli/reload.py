"""`hasyncd reload`: the daemon reads its file again and takes what can be changed while packets pass."""

from __future__ import annotations

import argparse

from hasyncd.cli.client import add_target_arguments, target_socket
from hasyncd.cli.command import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--check", action="store_true", help="say what would change, and change nothing")


def run(args: argparse.Namespace) -> int:
    return command(target_socket(args), "reload", check=args.check)
