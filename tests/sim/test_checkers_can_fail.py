"""A checker that cannot fail proves nothing: each promise is broken on purpose, and the swarm must notice.

A mutation changes one rule of the core for as long as the test runs. It is found if a seed among the first few says so,
in the words of the checker that watches that promise; the same seeds hold without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hasyncd.core import certificate
from hasyncd.core.election import Election
from hasyncd.core.messages import Heartbeat
from hasyncd.core.receiver import Receiver
from hasyncd.core.sender import Sender
from hasyncd.core.types import LogState, PairSettings
from tests.sim.shell import Shell
from tests.sim.swarm import run
from tests.sim.table import Table

SEEDS = 60
Patch = Callable[[Any, str, object], None]


def acknowledge_what_was_only_sent(patch: Patch) -> None:
    """Against S6: the sender counts as confirmed whatever it has written."""
    hear = Sender.hear

    def hear_too_much(self: Sender, beat: Heartbeat, log: LogState, now_ns: int) -> object:
        return hear(
            self, replace(beat, ack_sequence=log.head_sequence) if beat.ack_boot_id else beat, log, now_ns
        )

    patch(Sender, "hear", hear_too_much)


def promote_without_the_next_number(patch: Patch) -> None:
    """Against P1: a promotion keeps the generation that it has."""
    patch(Election, "next_generation", lambda self: max(self.generation, 1))


def forget_the_number_at_the_boot(patch: Patch) -> None:
    """Against P1: what is durable is overwritten by less."""
    patch(Election, "next_generation", lambda self: 1)


def lend_for_longer_than_silence_is_death(patch: Patch) -> None:
    """Against P3: a lease outlives the time after which the peer promotes."""
    patch(PairSettings, "lease_ns", property(lambda self: 3 * self.dead_after_ns))


def forget_deletes_and_compare_nothing(patch: Patch) -> None:
    """Against S1 and S8: a flow that ends is not in the log, and no digest is looked at."""
    patch(Table, "close_flow", lambda self, slot: self._take(slot))
    patch(Receiver, "compare", lambda self, beat: False)


def see_drift_where_there_is_none(patch: Patch) -> None:
    """Against S8: every comparison finds a difference, and each brings a full sync."""

    def compare(self: Receiver, beat: Heartbeat) -> bool:
        if not self.history.synced:
            return False
        self.distrust()
        return True

    patch(Receiver, "compare", compare)


def start_a_full_sync_at_every_timer(patch: Patch) -> None:
    """Against §7, the least sync that repairs: one after the other, on a stream that is open."""
    hear = Sender.hear

    def hear_and_start_over(self: Sender, beat: Heartbeat, log: LogState, now_ns: int) -> list[object]:
        effects: list[object] = list(hear(self, beat, log, now_ns))
        return effects + (list(self.full_sync(log)) if self.ready else [])

    patch(Sender, "hear", hear_and_start_over)


def promise_that_nothing_is_missing(patch: Patch) -> None:
    """Against pair.md §4a: whoever takes over calls himself complete."""
    patch(certificate, "judge_missing", lambda mirror, word: (0, "exact"))


MUTATIONS = [
    (promise_that_nothing_is_missing, "flows are missing"),
    (acknowledge_what_was_only_sent, "acknowledged flows"),
    (promote_without_the_next_number, "two nodes are armed in generation"),
    (forget_the_number_at_the_boot, "generation went back"),
    (lend_for_longer_than_silence_is_death, "two nodes are armed"),
    (forget_deletes_and_compare_nothing, "the tables hold different slots"),
    (see_drift_where_there_is_none, "a full sync although all is quiet"),
    (start_a_full_sync_at_every_timer, "a storm"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mutate", "words"), MUTATIONS, ids=[m.__name__ for m, _ in MUTATIONS])
def test_a_broken_rule_is_noticed_by_the_checker_of_its_promise(
    mutate: Callable[[Patch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch.setattr)
    told = []
    for seed in range(SEEDS):
        story = run(seed)
        if story is not None:
            verdict = next(line for line in reversed(story.splitlines()) if line.startswith("Broken: "))
            told.append(verdict)
            if words in verdict:
                monkeypatch.undo()
                assert run(seed) is None, "without the mutation the promise is kept"
                return
    pytest.fail(f"{SEEDS} seeds, and nobody noticed; what was said: {told[:10]}")


def test_a_checker_of_generations_remembers_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory that loses its number between two lives, unless it was wiped before everybody's eyes."""
    boot = Shell.boot

    def boot_with_less(self: Shell) -> None:
        self.durable_generation = max(0, self.durable_generation - 1)
        boot(self)

    monkeypatch.setattr(Shell, "boot", boot_with_less)
    assert any("generation went back" in (run(seed) or "") for seed in range(20))
