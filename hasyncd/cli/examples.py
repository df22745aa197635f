"""What to type: shown under each verb's `--help` and in the manual page."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "run": (("hasyncd run -c /etc/hasyncd/hasyncd.toml", "as the service does it"),),
    "check": (("hasyncd check /etc/hasyncd/hasyncd.toml", "before every restart"),),
    "keygen": (("hasyncd keygen keys --node gw-a --node gw-b", "two directories, one to copy to each node"),),
    "status": (
        ("hasyncd status", "one screen"),
        ("hasyncd status --watch", "again every second"),
        ("hasyncd status --check || page-somebody", "exit 1 unless a death now would cost nothing"),
        ("hasyncd status --json | jq .sync.at_risk_flows", "for scripts"),
    ),
    "flows": (
        ("hasyncd flows --proto tcp --src 10.0.1.0/24", "who of that network talks to whom"),
        ("hasyncd flows --reply-dst 203.0.113.5:40004", "who has this public port now"),
        ("hasyncd flows --at-risk --count", "how many would be lost now"),
        ("hasyncd flows --service web --json | jq -r .backend | sort | uniq -c", "who serves how many"),
    ),
    "ring": (("hasyncd ring web --remove 2", "what taking backend 2 out would move"),),
    "explain": (
        ("hasyncd explain 198.51.100.7:40000 203.0.113.5:80 tcp", "where that client is led, and why"),
        ("hasyncd explain 10.0.1.7:51515 8.8.8.8:53 udp --json", "which public port that host has"),
    ),
    "events": (
        ("hasyncd events --json", "one object a line, until interrupted"),
        ("hasyncd events --since 1h --no-follow", "what happened in the last hour"),
        ("hasyncd events --type role_changed --type 'path_*'", "only these"),
    ),
    "drain": (
        ("hasyncd drain 2 --wait", "before its server is taken down; returns when its last flow has gone"),
        ("hasyncd drain 2 --service web --timeout 5m", "what is left after five minutes is ended"),
    ),
    "undrain": (("hasyncd undrain 2", "the server is back"),),
    "weight": (
        ("hasyncd weight 2 1", "let it have few new flows"),
        ("hasyncd weight 2 configured", "as the file says again"),
    ),
    "reload": (
        ("hasyncd reload --check", "what would change, or why it cannot without a restart"),
        ("hasyncd reload", "on both nodes, primary first"),
    ),
    "switchover": (("hasyncd switchover", "before maintenance of the primary"),),
    "resync": (("hasyncd resync", "repairs what differs, which is normally nothing"),),
    "last-word": (("hasyncd last-word --node gw-a", "after a crash of gw-a, on its machine"),),
    "drill": (
        ("hasyncd drill", "1,000 TCP and 500 UDP flows, SIGKILL for the primary, a verdict for each flow"),
        ("hasyncd drill --without-sync", "the same without sync: what losing looks like (exit 1)"),
        ("hasyncd drill all --tcp 200 --udp 100 --report drill.html", "every scenario, drawn"),
    ),
    "lab": (
        ("hasyncd lab up", "both nodes, servers and clients in namespaces"),
        ("hasyncd lab shell client", "a shell on the client"),
        ("hasyncd lab down", "removes everything"),
    ),
    "bench": (
        ("hasyncd bench --list", "what can be measured"),
        ("hasyncd bench forward", "beside the kernel"),
    ),
}
