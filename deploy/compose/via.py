#!/usr/bin/env python3
"""`via.py GATEWAY COMMAND…`: sends all that is not on the link through GATEWAY, then becomes COMMAND."""

from __future__ import annotations

import os
import sys

from pyroute2 import IPRoute


def main() -> None:
    gateway, command = sys.argv[1], sys.argv[2:]
    with IPRoute() as routes:
        routes.route("replace", dst="default", gateway=gateway)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
