"""The filters of `hasyncd flows`: words of the command line into the request's keys. The daemon does the filtering."""

from __future__ import annotations

import argparse
import ipaddress
from typing import Any, Final, NamedTuple

PROTOCOL_NUMBERS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}


class End(NamedTuple):
    """One end of a flow: a network, a port, or both."""

    network: str | None
    port: int | None


def read_end(text: str) -> End:
    """`ADDRESS`, `PREFIX/N`, `:PORT` or both, IPv6 with a port in brackets. Raises argparse.ArgumentTypeError."""
    address, port = text, None
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith((":", "/"))):
            raise argparse.ArgumentTypeError(f"{text!r}: an IPv6 address with a port is [ADDRESS]:PORT")
        prefix, _, port_text = rest.rpartition(":") if ":" in rest else (rest, "", "")
        address, port = address + prefix, read_port(port_text) if port_text else None
    elif text.count(":") == 1:
        address, _, port_text = text.partition(":")
        port = read_port(port_text)
    if not address and port is not None:
        return End(None, port)
    try:
        return End(str(ipaddress.ip_network(address)), port)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_port(text: str) -> int:
    """Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The filters' options."""
    filters = parser.add_argument_group(
        "filters",
        "all that are given must match. END is ADDRESS, NETWORK/N, :PORT, or one of those with its port",
    )
    filters.add_argument("--proto", choices=sorted(PROTOCOL_NUMBERS))
    filters.add_argument("--src", type=read_end, metavar="END", help="who began the flow")
    filters.add_argument(
        "--dst", type=read_end, metavar="END", help="whom it was for: a VIP, or who is outside"
    )
    filters.add_argument("--reply-src", type=read_end, metavar="END", help="who answers: a backend")
    filters.add_argument(
        "--reply-dst",
        type=read_end,
        metavar="END",
        help="whom the answers are for: the public address and port",
    )
    filters.add_argument("--sport", type=read_port, metavar="PORT")
    filters.add_argument("--dport", type=read_port, metavar="PORT")
    filters.add_argument("--state", metavar="NAME", help="such as ESTABLISHED")
    filters.add_argument("--service", metavar="NAME")
    filters.add_argument("--backend", type=int, metavar="ID")
    filters.add_argument("--at-risk", action="store_true", help="that would be lost if this node died now")


def request_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the daemon is asked for. Raises argparse.ArgumentTypeError where one option contradicts another."""
    request: dict[str, Any] = {"sport": args.sport, "dport": args.dport}
    ports = {"src": "sport", "dst": "dport", "reply_src": "reply_sport", "reply_dst": "reply_dport"}
    for name, port in ports.items():
        end: End | None = getattr(args, name)
        if end is None:
            continue
        request[name] = end.network
        if end.port is not None:
            if request.get(port) not in (None, end.port):
                raise argparse.ArgumentTypeError(f"--{name} and --{port} name two ports")
            request[port] = end.port
    request |= {name: getattr(args, name) for name in ("proto", "state", "service", "backend")}
    request["at_risk"] = args.at_risk or None
    return {name: value for name, value in request.items() if value is not None}
