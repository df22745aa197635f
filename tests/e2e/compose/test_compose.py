"""The mission's own words, with a real engine: two containers as primary and backup, the primary killed,
every flow alive; the dead one started again, the other killed, every flow alive once more.
"""

from __future__ import annotations

import pytest

from tests.e2e.compose.flow_watch import FlowName, FlowState, FlowWatch
from tests.e2e.compose.project import GATEWAYS, Project

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

    Three: one may have lain in the socket, one been under way, so that at least one was asked for afterwards.
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


def test_each_gateway_says_which_role_it_has(project: Project) -> None:
    """`hasyncd status` answers in both containers: one primary that owns the addresses, one ready backup."""
    project.wait_for_roles(primary="primary", backup="backup")
    primary, backup = (project.status(service) for service in GATEWAYS)
    assert primary is not None
    assert backup is not None
    assert (primary["node"], backup["node"]) == ("gw-a", "gw-b")
    assert {vip["address"] for vip in primary["vips"]} == {"10.0.1.1/24", "203.0.113.5/24"}
    assert all(vip["owned"] for vip in primary["vips"])
    assert not any(vip["owned"] for vip in backup["vips"])
    assert primary["generation"] == backup["generation"] > 0


def test_flows_survive_the_kill_of_the_primary_and_then_of_its_successor(project: Project) -> None:
    """Every flow of the client (balanced) and of the private host (NAT) outlives two kills, unchanged."""
    project.wait_for_roles(primary="primary", backup="backup")
    with (
        project.watch("client", tcp=TCP, udp=UDP) as balanced,
        project.watch("private", tcp=TCP, udp=UDP) as translated,
    ):
        watches = (balanced, translated)
        first = [wait_until_all_talk(project, watch) for watch in watches]
        assert {flow.server for flow in first[0].values()} == {"backend-1", "backend-2"}
        assert {flow.server for flow in first[1].values()} == {"server"}
        assert {flow.source.split(":")[0] for flow in first[0].values()} == {"203.0.113.100"}
        assert {flow.source.split(":")[0] for flow in first[1].values()} == {"203.0.113.5"}

        for victim, successor in (("primary", "backup"), ("backup", "primary")):
            project.kill(victim)
            killed_at = [watch.flows() for watch in watches]
            for watch, begun, before in zip(watches, first, killed_at, strict=True):
                assert_unchanged(begun, wait_until_all_go_on(project, watch, before))
            state = project.status(successor)
            assert state is not None
            assert state["role"] == "primary"

            project.start(victim)
            project.wait_for_roles(primary=successor, backup=victim)
            for watch, begun in zip(watches, first, strict=True):
                assert_unchanged(begun, watch.flows())

        assert [watch.finish() for watch in watches] == [0, 0]
