"""`hasyncd explain`: where one flow is led, by what, and why."""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from hasyncd.cli.client import add_target_arguments, ask, target_socket
from hasyncd.cli.flow_filter import read_port

Answer = dict[str, Any]


class Point(NamedTuple):
    """One end, whole: an address and a port."""

    address: str
    port: int


def read_point(text: str) -> Point:
    """`ADDRESS:PORT`, IPv6 as `[ADDRESS]:PORT`; without a port it is 0. Raises argparse.ArgumentTypeError."""
    address, port = text, "0"
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        address, port = (address, rest.removeprefix(":") or "0") if bracket else (text, port)
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        return Point(str(ipaddress.ip_address(address)), read_port(port))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; an end is ADDRESS:PORT or [ADDRESS]:PORT") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument(
        "src", type=read_point, metavar="SRC:PORT", help="who sends; of an echo, its identifier"
    )
    parser.add_argument("dst", type=read_point, metavar="DST:PORT", help="to whom, as the sender sees it")
    parser.add_argument("proto", choices=("tcp", "udp", "icmp"), metavar="PROTO", help="tcp, udp or icmp")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    answers, code, message = ask(
        target_socket(args),
        "explain",
        src=args.src.address,
        sport=args.src.port,
        dst=args.dst.address,
        dport=args.dst.port,
        proto=args.proto,
    )
    for answer in answers:
        if args.json:
            print(json.dumps(answer))
        else:
            print("\n".join(sentences(answer)))
    if message:
        print(message, file=sys.stderr)
    return code


def sentences(answer: Answer) -> Iterator[str]:
    """The answer in words: what becomes of it, then why."""
    yield f"{_ends(answer)} {answer['proto']}: {_headline(answer)}"
    if answer["side"] is None:
        yield "  no route leads back to its source, so nothing from there is believed"
    else:
        yield f"  its packets come in from {answer['side']}"
    if answer["flow"] is not None:
        yield from _of_flow(answer)
    if answer["service"] is not None:
        yield from _of_service(answer["service"])
    if answer["nat"] is not None:
        yield f"  {_of_nat(answer)}"
    if answer["flow"] is not None:
        yield f"  {_of_fresh(answer)}"
    if not answer["forwards"]:
        yield "  this node does not forward now: what is said is what it would do as primary"


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _ends(row: Answer, prefix: str = "") -> str:
    src, sport, dst, dport = (row[f"{prefix}{name}"] for name in ("src", "sport", "dst", "dport"))
    return f"{_end(src, sport)} → {_end(dst, dport)}"


def _headline(answer: Answer) -> str:
    fresh = answer["fresh"]
    match answer["verdict"]:
        case "flow":
            what = "the replies of a live flow" if answer["flow"]["is_reply"] else "a live flow"
            return f"{what}, {answer['flow']['state']}, {answer['flow']['timeout_s']} s left"
        case "answered":
            return "answered by the gateway itself"
        case "new_flow":
            return f"no flow yet; a first packet makes one, answered {_ends(fresh, 'reply_')}"
    told = ", and its sender is told" if answer["sender_told"] else ""
    return f"dropped ({answer['dropped']}): {answer['because']}{told}"


def _of_flow(answer: Answer) -> Iterator[str]:
    flow = answer["flow"]
    yield f"  original {_ends(flow)}, replies {_ends(flow, 'reply_')}"
    if flow["backend"] is not None:
        yield f"  it is {_backend(flow['backend'])}'s, of service {flow['service']}, as long as it lives"
    if flow["syn_begins_anew"]:
        yield "  but a new SYN from there would end it and begin another"


def _of_service(service: Answer) -> Iterator[str]:
    yield (
        f"  service {service['name']}: {service['algorithm']} by {service['key']}, "
        f"generation {service['ring_generation']}, digest {service['digest']}"
    )
    owner, backend = service["owner"], service["backend"]
    if owner is not None:
        at = f"slot {service['slot']:,} of {service['slots']:,}"
        if service["point"] is not None:
            at = f"vnode {service['slot']:,} of {service['slots']:,}, at {service['point']}"
        yield f"  key {service['key_hash']} → {at} → {_backend(owner)}"
    elif backend is not None:
        yield f"  in turn: the next one is {_backend(backend)}"
    if owner is not None and backend is not None and owner["id"] != backend["id"]:
        yield f"  which has its share of the flows (load_limit): the next with room is {_backend(backend)}"
    under_way = service["under_way"]
    if under_way is not None and backend is not None and under_way["id"] != backend["id"]:
        yield f"  a connection under way that is not known goes by the table before: {_backend(under_way)}"


def _backend(backend: Answer) -> str:
    return f"backend {backend['id']} ({backend['address']}, {backend['state']}, {backend['flows']:,} flows)"


def _of_nat(answer: Answer) -> str:
    nat = answer["nat"]
    match nat["kind"]:
        case "pass":
            return f"pass rule {nat['rule']}: untranslated"
        case "exempt":
            return f"nat rule {nat['rule']} exempts the destination: untranslated"
        case "one_to_one":
            return f"1:1 mapping {nat['rule']}: {nat['public']}, ports as they are"
        case "forward":
            return f"forward {nat['rule']}: {nat['public']}"
    prefers = f"its hash prefers {nat['preferred']}"
    if nat["public"] is None:
        return f"nat rule {nat['rule']}: {prefers}"
    why = prefers if nat["public"] == nat["preferred"] else f"{prefers}, which was taken"
    return f"nat rule {nat['rule']}: public {nat['public']}; {why}"


def _of_fresh(answer: Answer) -> str:
    if not answer["fresh_differs"]:
        return "a fresh decision would be the same"
    if answer["fresh"] is None:
        return "a fresh decision would be to drop it: the configuration or the backends changed since"
    return f"a fresh decision would differ: replies {_ends(answer['fresh'], 'reply_')}"
