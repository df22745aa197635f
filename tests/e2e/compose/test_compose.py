"""The mission's own words, with a real engine: two containers as primary and backup, the primary killed,
every flow alive; the dead one started again, the other killed, every flow alive once more.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.compose.flow_watch import FlowName, FlowState, FlowWatch
from tests.e2e.compose.project import NODES, Project

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

TCP, UDP = 20, 20

Flows = dict[FlowName, FlowState]


def wait_until_all_talk(project: Project, watch: FlowWatch) -> Flows:
    """Until every flow of a client has had an answer."""
    return project.wait_until(
        "every flow was answered",
        watch.flows,
        lambda flows: len(flows) == TCP + UDP and all(flow.answered for flow in flows.values()),
    )


def wait_until_all_go_on(project: Project, watch: FlowWatch, before: Flows) -> Flows:
    """Until every flow has had three answers more than in `before`, or one has broken.

    Three: one may have lain in the socket, one been under way, so at least one was asked for afterwards.
    """

    def decided(flows: Flows) -> bool:
        broken = any(flow.broken for flow in flows.values())
        return broken or all(flow.answered >= before[name].answered + 3 for name, flow in flows.items())

    return project.wait_until("every flow goes on", watch.flows, decided)


def assert_unchanged(before: Flows, after: Flows) -> None:
    """Nothing broke, and the far end still is, and still sees, what it was and saw."""
    assert {name: flow.broken for name, flow in after.items() if flow.broken} == {}
    ends = {name: (flow.server, flow.source) for name, flow in after.items()}
    assert ends == {name: (flow.server, flow.source) for name, flow in before.items()}


@contextlib.contextmanager
def every_flow_unchanged(project: Project) -> Iterator[Callable[[], None]]:
    """Flows from either side for as long as the block lasts, none of which may break or change.

    What it gives waits until every flow has gone on from the moment of the call.
    """
    with (
        project.watch("client", tcp=TCP, udp=UDP) as balanced,
        project.watch("private", tcp=TCP, udp=UDP) as translated,
    ):
        watches = (balanced, translated)
        begun = [wait_until_all_talk(project, watch) for watch in watches]
        assert {flow.server for flow in begun[0].values()} == {"backend-1", "backend-2"}
        assert {flow.source.split(":")[0] for flow in begun[0].values()} == {"203.0.113.100"}
        assert {flow.server for flow in begun[1].values()} == {"server"}
        assert {flow.source.split(":")[0] for flow in begun[1].values()} == {"203.0.113.5"}

        def go_on() -> None:
            now = [watch.flows() for watch in watches]
            for watch, first, before in zip(watches, begun, now, strict=True):
                assert_unchanged(first, wait_until_all_go_on(project, watch, before))

        yield go_on
        go_on()
        assert [watch.finish() for watch in watches] == [0, 0]


def test_each_gateway_says_which_role_it_has(project: Project) -> None:
    """`hasyncd status` answers in both containers: one primary that owns the addresses, one ready backup."""
    states = [project.status(service) for service in project.wait_for_pair()]
    primary, backup = (state for state in states if state is not None)
    assert {primary["node"], backup["node"]} == set(NODES.values())
    assert {vip["address"] for vip in primary["vips"]} == {"10.0.1.1/24", "203.0.113.5/24"}
    assert all(vip["owned"] for vip in primary["vips"])
    assert not any(vip["owned"] for vip in backup["vips"])
    assert primary["generation"] > 0


def test_the_gateways_hold_two_capabilities_and_no_more(project: Project) -> None:
    """CAP_NET_ADMIN (bit 12) and CAP_NET_RAW (bit 13) are all that the daemons are given."""
    for service in NODES:
        words = project.compose("exec", "-T", service, "cat", "/proc/1/status").split()
        assert int(words[words.index("CapEff:") + 1], 16) == 1 << 12 | 1 << 13
        assert words[words.index("Uid:") + 1 :][:4] == ["7077"] * 4
        assert project.inspect(service, "{{.HostConfig.ReadonlyRootfs}}") == "true"


def test_the_engine_finds_the_gateways_healthy(project: Project) -> None:
    """The image's health check is `hasyncd status`, as the daemon's own user."""
    for service in NODES:
        project.wait_until(
            "the container is healthy",
            functools.partial(project.inspect, service, "{{.State.Health.Status}}"),
            lambda health: health == "healthy",
        )


def test_flows_survive_the_kill_of_the_primary_and_then_of_its_successor(project: Project) -> None:
    """Every flow of the client (balanced) and of the private host (NAT) outlives two kills, unchanged."""
    with every_flow_unchanged(project) as go_on:
        for _ in range(2):
            victim, successor = project.wait_for_pair()
            project.kill(victim)
            go_on()
            state = project.status(successor)
            assert state is not None
            assert state["role"] == "primary"
            project.start(victim)
            assert project.wait_for_pair() == (successor, victim)


def test_a_planned_stop_hands_the_flows_over(project: Project) -> None:
    """`docker compose stop` of the primary: it ends by itself with 0, its backup has the addresses, no flow notices."""
    leaver, successor = project.wait_for_pair()
    with every_flow_unchanged(project) as go_on:
        assert project.stop(leaver) == 0
        go_on()
        project.start(leaver)
        assert project.wait_for_pair() == (successor, leaver)


def test_a_paused_primary_is_replaced_and_yields_when_it_wakes(project: Project) -> None:
    """`docker pause`: alive, silent, its kernel still answering. What wakes finds another primary and joins it."""
    frozen, successor = project.wait_for_pair()
    with every_flow_unchanged(project) as go_on:
        project.pause(frozen)
        try:
            go_on()
        finally:
            project.resume(frozen)
        assert project.wait_for_pair() == (successor, frozen)


def test_a_cut_sync_link_moves_nobody(project: Project) -> None:
    """`docker network disconnect` of the sync link: heartbeats go on over the service LANs, the flows as well."""
    primary, backup = project.wait_for_pair()
    address = {"primary": "169.254.10.1", "backup": "169.254.10.2"}[backup]
    with every_flow_unchanged(project) as go_on:
        project.cut(backup, "sync")
        go_on()
        state = project.status(primary)
        assert state is not None
        assert state["role"] == "primary"
        project.mend(backup, "sync", address)
        go_on()
    assert project.wait_for_pair() == (primary, backup)


def test_an_upgrade_one_node_at_a_time_is_not_noticed(project: Project) -> None:
    """A new container for the backup, a planned stop of the primary, a new container for it, too."""
    first, second = project.wait_for_pair()
    with every_flow_unchanged(project) as go_on:
        project.replace(second)
        assert project.wait_for_pair() == (first, second)
        go_on()
        project.replace(first)
        assert project.wait_for_pair() == (second, first)
