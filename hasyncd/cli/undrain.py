"""`hasyncd undrain BACKEND`: takes the order to drain it back."""

from __future__ import annotations

import argparse

from hasyncd.cli.backend_argument import add_backend_arguments
from hasyncd.cli.client import target_socket
from hasyncd.cli.command import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_backend_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return command(target_socket(args), "undrain", backend=args.backend, service=args.service)
