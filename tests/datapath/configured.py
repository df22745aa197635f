"""A configuration's text as settings, and as an engine whose sides are lists of frames."""

from __future__ import annotations

from pathlib import Path

from hasyncd.balance.services import Services
from hasyncd.balance.tables import first_tables
from hasyncd.config import Settings, load
from hasyncd.datapath.packet import INSIDE, OUTSIDE, Engine, build_engine
from tests.native.engines import INSIDE_MAC, OUTSIDE_MAC


def settings_of(text: str, directory: Path) -> Settings:
    """What the daemon would read. Raises ConfigError."""
    file = directory / "n1.toml"
    file.write_text(text)
    return load(file)


def engine_of(settings: Settings) -> Engine:
    """With the configuration's rules and services; it knows no way out, and is not armed."""
    services = Services(settings.service)
    published = first_tables(services)
    engine = build_engine(settings, b"sixteen-byte-key", published)
    engine.attach(INSIDE, INSIDE_MAC, 1500)
    engine.attach(OUTSIDE, OUTSIDE_MAC, 1500)
    return engine
