"""Both nodes were primary behind a cut: what becomes of each one's flows when it heals. proto/pair.md §7a."""

from __future__ import annotations

from hasyncd.core.types import MILLISECOND_NS, MergeFindings, MergeReport, Role
from tests.sim.checkers import check_converged
from tests.sim.scenes import A, B, a_ready_pair, becomes_primary, events, open_flows, ready
from tests.sim.simulator import World

QUIET = {"flow_interval_ns": 0, "capacity": 400}


def a_split_pair(**options: object) -> World:
    """Both are primary and serve; gw-b has the higher generation. Forty flows are known to both."""
    world = a_ready_pair(**QUIET | options)
    open_flows(world, 40)
    world.run_ms(300)
    world.cut()
    becomes_primary(world, B, 1000)
    world.run_ms(1000)
    assert all(shell.armed for shell in world.shells)
    return world


def open_keys(world: World, index: int, keys: range) -> set[tuple[int, int]]:
    """(key, port) of flows that this node alone makes now."""
    table = world.shells[index].table
    for key in keys:
        assert table.open_flow(key)
        world.shells[index].input(lambda now: [])
    return {(flow.key, flow.port) for flow in table.flows.values() if flow.key in keys}


def pairs(world: World, index: int) -> set[tuple[int, int]]:
    return {(flow.key, flow.port) for flow in world.shells[index].table.flows.values()}


def heal(world: World) -> None:
    world.heal()
    world.run_until(lambda: world.shells[A].role is Role.BACKUP, 100, "the lower rank steps down")
    assert not world.shells[A].armed
    world.run_until(lambda: ready(world) and check_converged(world) is None, 5000, "whole again")


def merged(world: World) -> MergeFindings:
    report = world.shells[B].node.view(world.shells[B].now()).sync.merge
    assert report is not None
    assert report.found is not None
    return report.found


def test_what_each_made_alone_lives_on_both_after_it() -> None:
    world = a_split_pair()
    before = pairs(world, B)
    of_a, of_b = open_keys(world, A, range(10_000, 10_050)), open_keys(world, B, range(20_000, 20_050))
    assert {port >> 1 & 1 for _, port in of_a} == {0}
    assert {port >> 1 & 1 for _, port in of_b} == {1}
    heal(world)
    assert pairs(world, A) == pairs(world, B) == before | of_a | of_b
    assert merged(world) == MergeFindings(merged=50)
    assert world.reunion.splits == 1
    (healed,), (offered,) = events(world.shells[A], "split_healed"), events(world.shells[A], "flows_offered")
    assert "gw-b is primary of generation 2, this node was of 1" in healed.detail
    assert offered.detail.startswith("50 flows")
    (report,) = events(world.shells[B], "merge_report")
    assert report.detail == (
        "gw-a offered 50 flows: 50 merged, 0 known, 0 collided, 0 without room; nothing is lost"
    )
    assert world.shells[A].node.view(world.shells[A].now()).sync.merge == MergeReport(50)


def test_one_client_by_both_nodes_keeps_the_winners_mapping() -> None:
    world = a_split_pair()
    of_a, of_b = open_keys(world, A, range(10_000, 10_020)), open_keys(world, B, range(10_010, 10_030))
    clients = {key for key, _ in of_b}
    heal(world)
    assert of_b <= pairs(world, B)
    assert {pair for pair in of_a if pair[0] not in clients} <= pairs(world, B)
    assert (merged(world).merged, merged(world).collided) == (10, 10)
    (report,) = events(world.shells[B], "merge_report")
    assert "10 collided" in report.detail


def test_what_the_winner_ended_and_the_loser_did_not_use_stays_ended() -> None:
    world = a_split_pair()
    winner, loser = world.shells[B].table, world.shells[A].table
    ended, used = list(winner.flows)[:5], list(winner.flows)[5:8]
    keys = {slot: winner.flows[slot].key for slot in (*ended, *used)}
    for slot in (*ended, *used):
        winner.close_flow(slot)
    for slot in used:
        loser.refresh_flow(slot)
    heal(world)
    assert not {keys[slot] for slot in ended} & winner.keys, "no zombies"
    assert {keys[slot] for slot in used} <= winner.keys, "but what somebody uses comes back"


def test_an_offer_that_breaks_off_is_made_again() -> None:
    world = a_split_pair()
    of_a = open_keys(world, A, range(10_000, 10_200))
    world.heal()
    world.run_until(lambda: len(world.shells[B].table.judged) > 60, 1000, "in the middle of it")
    assert len(world.shells[B].table.judged) < 200
    world.break_stream()
    world.run_until(lambda: ready(world) and check_converged(world) is None, 5000, "whole again")
    assert of_a <= pairs(world, B)
    assert merged(world) == MergeFindings(merged=200), "those of the first stream count as merged too"


def test_an_offer_that_breaks_off_again_and_again_is_given_up_loudly() -> None:
    world = a_split_pair()
    open_keys(world, A, range(10_000, 10_200))
    world.heal()
    offering = world.shells[A].node._offering
    for tries in range(1, 6):
        world.run_until(lambda tries=tries: offering._tries == tries, 5000, "it offers")  # type: ignore[misc]
        world.run_ms(2)
        world.break_stream()
    world.run_until(lambda: ready(world) and check_converged(world) is None, 8000, "whole again")
    assert events(world.shells[A], "merge_given_up")


def test_the_winner_dies_in_the_middle_of_it_and_the_loser_has_its_own_flows() -> None:
    world = a_split_pair()
    of_a = open_keys(world, A, range(10_000, 10_200))
    world.heal()
    world.run_until(lambda: bool(world.shells[B].table.judged), 1000, "in the middle of it")
    world.kill(B)
    becomes_primary(world, A, 1000)
    assert of_a <= pairs(world, A)
    world.boot(B)
    world.run_until(lambda: ready(world) and check_converged(world) is None, 5000, "whole again")
    assert of_a <= pairs(world, B)
    assert not events(world.shells[A], "merge_report")


def test_an_offer_slower_than_a_handshake_is_taken() -> None:
    """Fifty batches, one each 40 ms: a second is for each of them, not for all."""
    world = a_split_pair(offer_pause_ns=40 * MILLISECOND_NS)
    of_a = open_keys(world, A, range(10_000, 10_300))
    world.heal()
    world.run_until(lambda: world.reunion.splits == 1, 5000, "all of it was judged")
    assert of_a <= pairs(world, B)


def test_to_a_winner_that_takes_no_offers_none_is_made_loudly() -> None:
    world = a_split_pair(features=(7, 3))
    open_keys(world, A, range(10_000, 10_010))
    heal(world)
    assert events(world.shells[A], "merge_impossible")
    assert not world.shells[B].table.judged


def test_a_node_that_was_no_primary_beside_another_offers_nothing() -> None:
    world = a_ready_pair()
    world.run_ms(300)
    shell = world.shells[A]
    shell.perform(shell.node.command_switchover(False, shell.now())[2])
    world.run_until(lambda: shell.role is Role.BACKUP and ready(world), 3000, "handed over")
    world.kill(B)
    becomes_primary(world, A, 1000)
    world.boot(B)
    world.run_until(lambda: ready(world), 3000, "rejoined")
    for each in world.shells:
        assert not events(each, "merge_report") + events(each, "flows_offered") + events(each, "split_healed")


def test_a_solo_node_gives_out_its_half_and_a_paired_one_everything() -> None:
    world = World(1)
    world.boot(B)
    becomes_primary(world, B, 1000)
    assert world.shells[B].table.solo
    world.boot(A)
    world.run_until(lambda: ready(world), 3000, "paired")
    assert not world.shells[B].table.solo
    world.kill(A)
    world.run_until(lambda: world.shells[B].table.solo, 1000, "alone again")
