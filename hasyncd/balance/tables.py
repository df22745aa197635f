"""Backend tables, built in C: milliseconds each, so never in the event loop."""

from __future__ import annotations

from collections.abc import Mapping

from hasyncd._native import BackendTable
from hasyncd.addresses import EngineAddress
from hasyncd.balance.services import VNODES, Declaration, Publication, Services

__all__ = ["BackendTable", "FirstTable", "build_table", "first_tables", "make_table"]

FirstTable = tuple[Declaration, tuple[list[tuple[int, EngineAddress, int, int, int]], BackendTable]]
"""A service, its backends and the table of its first generation."""


def first_tables(services: Services) -> list[FirstTable]:
    """What an engine begins with, one a service."""
    publications = [(each, services.publication(each.service)) for each in services.declarations()]
    return [(each, (what.backends, build_table(what))) for each, what in publications]


def make_table(
    algorithm: str, members: Mapping[int, int], generation: int = 0, scale: int = 1
) -> BackendTable:
    """A table of members (id -> weight, in parts of `scale`). The interpreter's lock is not held meanwhile."""
    return BackendTable(algorithm, list(members.items()), generation, VNODES // scale)


def build_table(publication: Publication) -> BackendTable:
    """The table that a publication speaks of."""
    return make_table(publication.algorithm, publication.members, publication.generation, publication.scale)
