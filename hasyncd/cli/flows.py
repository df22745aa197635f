"""`hasyncd flows`: lists the flows, one at a time as they come, never as one huge list."""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from hasyncd.cli.client import Answer, add_target_arguments, target_socket

PROTOCOL_NUMBERS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
Flow = dict[str, Any]
_FILTERS: Final = ("proto", "src", "dst", "sport", "dport", "state", "service", "backend")


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ipaddress.ip_network(text)
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
    with Answer(target_socket(args), {"verb": "flows"}) as answer:
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
    given = {key: value for key, value in vars(args).items() if key in _FILTERS and value is not None}

    def matches(flow: Flow) -> bool:
        if args.at_risk and not flow.get("at_risk"):
            return False
        return all(_matches(flow.get(key), value) for key, value in given.items())

    return matches


def _matches(value: object, wanted: object) -> bool:
    if isinstance(wanted, IPv4Network | IPv6Network):
        return isinstance(value, str) and ipaddress.ip_address(value) in wanted
    return str(value).casefold() == str(wanted).casefold()


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
