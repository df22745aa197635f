"""`hasyncd drill`: the drill command of the lab."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hasyncd.lab import drill_command

    drill_command.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from hasyncd.lab import drill_command

    return drill_command.run(args)
