"""`hasyncd run -c FILE`: the daemon in the foreground."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, required=True, help="the node's configuration (TOML)"
    )


def run(args: argparse.Namespace) -> int:
    from hasyncd.config import ConfigError, load

    try:
        settings = load(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    from hasyncd.runtime import daemon  # the extension and all: only for a file that is worth it

    return daemon.main(settings, args.config)
