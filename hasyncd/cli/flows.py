"""`hasyncd flows`: lists the flows, one at a time as they come, never as one huge list."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from hasyncd.cli import flow_filter
from hasyncd.cli.client import Answer, BadTarget, add_target_arguments, target_socket
from hasyncd.cli.flow_filter import PROTOCOL_NUMBERS

Flow = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", action="store_true", help="only how many")
    flow_filter.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    try:
        request = {"verb": "flows", **flow_filter.request_of(args)}
    except argparse.ArgumentTypeError as error:
        raise BadTarget(str(error)) from None
    if args.count:
        request["count"] = True
    with Answer(target_socket(args), request) as answer:
        write = sys.stdout.write
        for text in answer.lines():
            if args.json:
                write(text)
            else:
                item = json.loads(text)
                write(f"{item['count'] if args.count else line(item)}\n")
    if answer.message:
        print(answer.message, file=sys.stderr)
    return answer.exit_code or 0


def line(flow: Flow) -> str:
    """One flow as `conntrack -L` writes it, what it belongs to at the end."""
    proto, state = str(flow["proto"]), flow["state"]
    text = (
        f"{proto:<8} {PROTOCOL_NUMBERS.get(proto, 0)} {flow['timeout_s']}{f' {state}' if state else ''} "
        f"src={flow['src']} dst={flow['dst']} sport={flow['sport']} dport={flow['dport']} "
        f"src={flow['reply_src']} dst={flow['reply_dst']} sport={flow['reply_sport']} dport={flow['reply_dport']}"
    )
    for key in ("service", "backend", "rule"):
        if flow[key] is not None:
            text += f" {key}={flow[key]}"
    return text + " [AT-RISK]" if flow["at_risk"] else text
