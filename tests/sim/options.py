"""What a seed decides before anything happens."""

from __future__ import annotations

from dataclasses import dataclass

from hasyncd.core.types import MILLISECOND_NS, PairSettings
from tests.sim.machine import TRACKS

NAMES = ("gw-a", "gw-b")


@dataclass(frozen=True, slots=True)
class Options:
    priorities: tuple[int, int] = (200, 100)
    prefer: str = "availability"
    sync: bool = True
    capacity: int = 64
    log_records: int = 4096
    loss: float = 0.0
    delay_ns: tuple[int, int] = (50_000, 300_000)
    flow_interval_ns: int = 2 * MILLISECOND_NS
    """Between two events of the traffic; 0: no traffic."""
    nested_answers: bool = True
    """Answers to effects are given at once, in the middle of the list, or after it."""
    generations: tuple[int, int] = (0, 0)
    drift_ppm: tuple[int, int] = (0, 0)
    """How much faster than the world's each node's clock runs."""
    lag_max_ns: int = 0
    """How much later than another's the bytes of one connection may arrive."""
    window: int = 65_536
    protocols: tuple[tuple[int, int], tuple[int, int]] = ((1, 2), (1, 2))
    """Oldest and newest version of each node."""
    features: tuple[int, int] = (7, 7)
    skewed: bool = False
    """The two have other configurations."""
    offer_pause_ns: int = 400_000
    """Between two batches of an offer: write(2) has to take the first."""
    wait_ms: int = 0
    paths: tuple[str, ...] = ("sync",)
    fitness_margin: int = 100
    hold_down_ms: int = 400
    takes_owned_vips: bool = False
    authenticated: bool = False
    """First contact has to be proven: proto/pair.md §8, P6."""

    rough: bool = False
    """A stream may lose, double or change a byte."""

    def settings_of(self, index: int) -> PairSettings:
        return PairSettings(
            node=NAMES[index],
            priority=self.priorities[index],
            heartbeat_ns=50 * MILLISECOND_NS,
            dead_after_ns=150 * MILLISECOND_NS,
            prefer=self.prefer,
            sync_enabled=self.sync,
            capacity=self.capacity,
            config_hash=bytes([index if self.skewed else 0] * 8),
            protocols=self.protocols[index],
            window=self.window,
            features=self.features[index],
            paths=self.paths,
            tracks=TRACKS,
            fitness_margin=self.fitness_margin,
            hold_down_ns=self.hold_down_ms * MILLISECOND_NS,
            takes_owned_vips=self.takes_owned_vips,
            wait_ns=self.wait_ms * MILLISECOND_NS,
            authenticated=self.authenticated,
        )
