"""`hasyncd lab`: the lab command of the lab."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hasyncd.lab import lab_command

    lab_command.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from hasyncd.lab import lab_command

    return lab_command.run(args)
