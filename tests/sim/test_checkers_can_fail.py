"""A checker that cannot fail proves nothing: each promise is broken on purpose, and the swarm must notice.

A mutation changes one rule of the core for as long as the test runs. It is found if a seed among the first few says so,
in the words of the checker that watches that promise; the same seeds hold without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hasyncd.core import certificate, register
from hasyncd.core.effects import Effect
from hasyncd.core.election import Election
from hasyncd.core.messages import Heartbeat
from hasyncd.core.receiver import Receiver
from hasyncd.core.sender import Sender
from hasyncd.core.types import Findings, LogState, PairSettings
from tests.sim.checkers import Leastness, check_converged
from tests.sim.scenes import A, B, a_big_pair, events
from tests.sim.shell import Shell
from tests.sim.simulator import World
from tests.sim.swarm import run
from tests.sim.table import Table

SEEDS = 300
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
    patch(Receiver, "compare", lambda self, beat, now_ns: False)


def see_drift_where_there_is_none(patch: Patch) -> None:
    """Against S8: every comparison finds a difference, and each brings a sync."""

    def compare(self: Receiver, beat: Heartbeat, now_ns: int) -> bool:
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
        return effects + (list(self.full_sync(log, now_ns)) if self.ready else [])

    patch(Sender, "hear", hear_and_start_over)
    patch(Leastness, "see_sync", lambda *_: None)  # it would speak first


def send_everything_however_little_differs(patch: Patch) -> None:
    """Against S6c: a backup that says nothing of what it holds."""
    patch(Receiver, "_asks_for_everything", lambda self, hello: True)


def send_buckets_that_do_not_differ(patch: Patch) -> None:
    """Against §7: the neighbour of a suspect is a suspect too."""
    compare = Table.compare_buckets

    def compare_loosely(self: Table, digests: bytes) -> bytes:
        suspects = int.from_bytes(compare(self, digests), "little")
        wide = (suspects | suspects << 1) & (1 << len(digests) // 8) - 1
        return wide.to_bytes(-(-len(digests) // 64), "little")

    patch(Table, "compare_buckets", compare_loosely)


def resume_nobody(patch: Patch) -> None:
    """Against S7a: every stream begins with a comparison."""
    patch(Receiver, "_resumable", lambda self, hello: False)
    patch(Sender, "_resume", lambda self, reply, now_ns: self.full_sync(LogState(), now_ns))


def skip_what_the_log_still_holds(patch: Patch) -> None:
    """Against §7: the log is never simply continued behind a comparison."""
    patch(Sender, "_goes_on", lambda self, reply, head, log: reply.synced)


def forget_the_refreshes(patch: Patch) -> None:
    """Against §7: records are skipped, and timeouts that were in them are told nobody."""
    step = Table.step_cursor

    def step_without(self: Table, count: int) -> None:
        self._refreshes_others = False
        step(self, count)

    patch(Table, "step_cursor", step_without)


def believe_what_was_written(patch: Patch) -> None:
    """Against S8a: nobody looks at memory."""
    patch(Table, "scrub", lambda self: None)


def keep_what_is_suspect(patch: Patch) -> None:
    """Against §7: flows that the primary does not have stay, and nobody compares."""
    patch(Table, "end_sync", lambda self: None)
    patch(Receiver, "compare", lambda self, beat, now_ns: False)
    swept = Receiver.swept

    def believe(
        self: Receiver, flow_count: int, digest: int, findings: Findings, now_ns: int
    ) -> list[Effect]:
        end = self._sweep[1] if self._sweep else None
        return swept(self, *((end.flow_count, end.digest) if end else (0, 0)), findings, now_ns)

    patch(Receiver, "swept", believe)


def wait_for_ever_for_what_is_owed(patch: Patch) -> None:
    """Against S4a: a byte that got lost is waited for."""
    patch(Receiver, "_is_owed", lambda self: False)


def promise_that_nothing_is_missing(patch: Patch) -> None:
    """Against pair.md §4a: whoever takes over calls himself complete."""
    patch(certificate, "judge_missing", lambda mirror, word: (0, "exact"))


def let_the_witness_grant_everybody(patch: Patch) -> None:
    """Against P30 and P31: a claim is granted whoever acts alone."""
    patch(register, "_judge_claim", lambda *_, **__: register.Outcome.GRANTED)


MUTATIONS = [
    (let_the_witness_grant_everybody, "prefer = safety, and a witness", 276),
    (promise_that_nothing_is_missing, "flows are missing", 3),
    (acknowledge_what_was_only_sent, "acknowledged flows", 39),
    (promote_without_the_next_number, "two nodes are armed in generation", 28),
    (forget_the_number_at_the_boot, "generation went back", 1),
    (lend_for_longer_than_silence_is_death, "two nodes are armed", 15),
    (forget_deletes_and_compare_nothing, "the tables hold different slots", 1),
    (see_drift_where_there_is_none, "a sync although all is quiet", 0),
    (start_a_full_sync_at_every_timer, "a storm", 0),
    (send_everything_however_little_differs, "everything was sent to a backup", 6),
    (send_buckets_that_do_not_differ, "although they did not differ", 12),
    (resume_nobody, "could have been resumed", 1),
    (skip_what_the_log_still_holds, "records were skipped", 12),
    (keep_what_is_suspect, "the tables hold different slots", 169),
]
"""What is broken, what its checker says, and a seed that shows it, which is only where the search begins."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mutate", "words", "first"), MUTATIONS, ids=[m.__name__ for m, *_ in MUTATIONS])
def test_a_broken_rule_is_noticed_by_the_checker_of_its_promise(
    mutate: Callable[[Patch], None], words: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch.setattr)
    told = []
    for seed in (first, *range(SEEDS)):
        story = run(seed)
        if story is not None:
            verdict = next(line for line in reversed(story.splitlines()) if line.startswith("Broken: "))
            told.append(verdict)
            if words in verdict:
                monkeypatch.undo()
                assert run(seed) is None, "without the mutation the promise is kept"
                return
    pytest.fail(f"{SEEDS} seeds, and nobody noticed; what was said: {told[:10]}")


def lose_refreshes_with_the_log(world: World) -> None:
    table = world.shells[A].table
    world.stop_reading(B)
    for slot in sorted(table.flows)[:100]:
        table.refresh_flow(slot)
    world.run_until(lambda: bool(events(world.shells[A], "log_overrun")), 1000, "the log is overrun")
    world.read_again(B)


def lose_a_byte_before_a_long_silence(world: World) -> None:
    world.mangle("lost")
    world.shells[A].table.open_flow(900_001)
    world.shells[A].input(lambda now: [])


def change_memory_of_the_backup(world: World) -> None:
    world.corrupt(B)


@pytest.mark.parametrize(
    ("mutate", "happens", "words"),
    [
        (believe_what_was_written, change_memory_of_the_backup, "the digests differ"),
        (forget_the_refreshes, lose_refreshes_with_the_log, "a refresh of a timeout was lost"),
        (
            wait_for_ever_for_what_is_owed,
            lose_a_byte_before_a_long_silence,
            "the tables hold different slots",
        ),
    ],
    ids=["memory", "refreshes", "silence"],
)
def test_what_chance_seldom_brings_is_noticed_too(
    mutate: Callable[[Patch], None],
    happens: Callable[[World], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Changed memory, a lost refresh and a lost last byte, as stories: with the mutation the pair stays as it is."""
    for mutated in (False, True):
        if mutated:
            mutate(monkeypatch.setattr)
        world = a_big_pair(200, log_records=64)
        happens(world)
        world.run_ms(8000)
        assert check_converged(world) == (words if mutated else None)


def test_a_checker_of_generations_remembers_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory that loses its number between two lives, unless it was wiped before everybody's eyes."""
    boot = Shell.boot

    def boot_with_less(self: Shell) -> None:
        self.durable_generation = max(0, self.durable_generation - 1)
        boot(self)

    monkeypatch.setattr(Shell, "boot", boot_with_less)
    assert any("generation went back" in (run(seed) or "") for seed in range(20))
