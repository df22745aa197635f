"""`hasyncd bench`: measures this machine, side by side with the kernel."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hasyncd.bench import bench_command

    bench_command.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from hasyncd.bench import bench_command

    return bench_command.run(args)
