"""`peer.witness`: who is asked when silence alone speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from hasyncd.config_section import Name, Section, Some
from hasyncd.config_values import read_absolute_path, read_url


class Witness(Section):
    """A third party that decides who may act alone (proto/pair.md §7b)."""

    kind: Literal["etcd"]
    """A real etcd, version 3; best on a machine that both nodes reach by other wires than each other's."""
    endpoints: Some[Annotated[str, BeforeValidator(read_url)]]
    """Members of one cluster, the nearest first."""
    pair: Name | None = None
    """The register's name; by default the first outside VIP."""
    ca: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """For https: who signed the servers' certificates; by default whom the machine trusts."""
    cert: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """For https: this client's certificate, where the servers want one."""
    key: Annotated[Path, BeforeValidator(read_absolute_path)] | None = None
    """Its key, where it is not in the same file."""
