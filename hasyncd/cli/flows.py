"""`hasyncd flows`: lists the flows, one at a time as they come, never as one huge list."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from hasyncd.cli.client import Answer, add_target_arguments, target_socket

PROTOCOL_NUMBERS: Final = {"icmp": 1, "tcp": 6, "udp": 17}
Flow = dict[str, Any]


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", action="store_true", help="only how many")
    filters = parser.add_argument_group("filters", "all that are given must match; tuples as the flow began")
    filters.add_argument("--proto", choices=sorted(PROTOCOL_NUMBERS))
    filters.add_argument("--src", type=_network, metavar="ADDRESS[/N]")
    filters.add_argument("--dst", type=_network, metavar="ADDRESS[/N]")
    filters.add_argument("--sport", type=int, metavar="PORT")
    filters.add_argument("--dport", type=int, metavar="PORT")
    filters.add_argument("--state", metavar="NAME", help="such as ESTABLISHED")
    filters.add_argument("--service", metavar="NAME")
    filters.add_argument("--backend", metavar="ID")
    filters.add_argument("--at-risk", action="store_true", help="that would be lost if this node died now")


def run(args: argparse.Namespace) -> int:
    matches = wanted(args)
    count = 0
    with Answer(target_socket(args), "flows") as answer:
        for flow in answer:
            if not matches(flow):
                continue
            count += 1
            if not args.count:
                print(json.dumps(flow) if args.json else line(flow))
    if args.count:
        print(json.dumps({"count": count}) if args.json else count)
    if answer.message:
        print(answer.message, file=sys.stderr)
    return answer.exit_code or 0


def wanted(args: argparse.Namespace) -> Callable[[Flow], bool]:
    """The filters of the command line as one test."""
    tests: list[Callable[[Flow], bool]] = []
    for key in ("proto", "sport", "dport"):
        if (value := getattr(args, key)) is not None:
            tests.append(lambda flow, key=key, value=value: flow.get(key) == value)  # type: ignore[misc]
    for key in ("state", "service", "backend"):
        if (value := getattr(args, key)) is not None:
            tests.append(
                lambda flow, key=key, value=value: str(flow.get(key)).casefold() == value.casefold()  # type: ignore[misc]
            )
    for key in ("src", "dst"):
        if (net := getattr(args, key)) is not None:
            tests.append(lambda flow, key=key, net=net: IPv4Address(flow[key]) in net)  # type: ignore[misc]
    if args.at_risk:
        tests.append(lambda flow: bool(flow.get("at_risk")))
    return lambda flow: all(test(flow) for test in tests)


def line(flow: Flow) -> str:
    """One flow as `conntrack -L` writes it, what it belongs to at the end."""
    proto = str(flow.get("proto"))
    words = [f"{proto:<8} {PROTOCOL_NUMBERS.get(proto, 0)} {flow.get('timeout_s', 0)}"]
    if flow.get("state"):
        words.append(str(flow["state"]).upper())
    words.append("src={src} dst={dst} sport={sport} dport={dport}".format_map(flow))
    words.append("src={reply_src} dst={reply_dst} sport={reply_sport} dport={reply_dport}".format_map(flow))
    words += [f"{key}={flow[key]}" for key in ("service", "backend", "rule") if flow.get(key) is not None]
    if flow.get("at_risk"):
        words.append("[AT-RISK]")
    return " ".join(words)
