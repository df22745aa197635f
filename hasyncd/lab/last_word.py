"""What a killed primary had not got confirmed, held against what was lost. Pure.

Judged both ways: a flow that was lost outside of the set was promised and not kept; a set that holds far more than what
the backup had not got is an alarm that cries wolf.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

BATCH = 256
"""Flows that may stand in the set although the backup has them: confirmed, but the word was still on its way."""

FarEnd = tuple[str, str, int]
"""(protocol, address, port) of a flow as its server sees it."""


def compare(
    words: Sequence[Sequence[dict[str, Any]]], installed: Sequence[int | None], lost: Iterable[FarEnd]
) -> list[str]:
    """Sentences that speak against us.

    `words`: for each killed primary the lines of `hasyncd last-word --json`; `installed`: the last sequence that
    its backup had, where the certificate says it.
    """
    complaints = []
    everything = False
    at_risk: set[FarEnd] = set()
    for lines, backup_has in zip(words, installed, strict=True):
        head, flows = lines[0], lines[1:]
        everything |= head["commit"] == "none" or not head["whole"]
        at_risk |= {
            (flow["proto"], flow["reply_dst"], flow["reply_dport"]) for flow in flows if "reply_dst" in flow
        }
        if head["whole"] and head["at_risk"] != len(flows):
            complaints.append(f"the gauge said {head['at_risk']} flows at risk, its log names {len(flows)}")
        had = [flow for flow in flows if backup_has is not None and flow["sequence"] <= backup_has]
        if len(had) > BATCH:
            complaints.append(
                f"{len(had)} of {len(flows)} flows were said to be at risk and the backup had them"
            )
    promised = [] if everything else sorted(set(lost) - at_risk)
    if promised:
        complaints.append(f"{len(promised)} lost flows were not said to be at risk, such as {promised[0]}")
    return complaints
