"""What a backup knows of its completeness when it takes over: proto/pair.md §4 step 2, §4a.

Judged by what the primary said last. A bound is a promise too: it may be too high, never too low, as far as that word
went.
"""

from __future__ import annotations

from dataclasses import dataclass

from hasyncd.core.messages import Heartbeat
from hasyncd.core.types import Certificate


@dataclass(frozen=True, slots=True)
class Mirror:
    """What the backup holds, and how it came by it."""

    boot_id: int
    generation: int
    installed: int
    flow_count: int
    verdict: bool | None
    """Of the last comparison of digests."""
    promised: int
    """The highest sequence that the stream, or a heartbeat on it, spoke of."""
    synced: bool
    from_empty: bool
    """Whatever is held came in the sync under way: the table was empty when it began."""


def certify(mirror: Mirror, word: Heartbeat | None) -> Certificate:
    """The certificate; `word` is the newest heartbeat of a primary that this backup has heard."""
    missing, known = judge_missing(mirror, word)
    return Certificate(
        generation=mirror.generation,
        last_sequence=mirror.installed,
        digest={True: "match", False: "mismatch", None: "unknown"}[mirror.verdict],
        flows_held=mirror.flow_count,
        flows_missing=missing,
        flows_missing_is=known,
        complete=known == "exact",
    )


def judge_missing(mirror: Mirror, word: Heartbeat | None) -> tuple[int | None, str]:
    """Flows missing, and how that is known: `exact`, `at_most` or `unknown`."""
    same_log = word is None or (word.boot_id, word.generation) == (mirror.boot_id, mirror.generation)
    in_step = mirror.synced and mirror.verdict is not False and same_log
    head = max(mirror.promised, word.head_sequence if word else 0)
    behind = max(0, head - mirror.installed)
    if in_step and not behind:
        return 0, "exact"
    if word is None:
        return None, "unknown"
    bound = word.flow_count
    if in_step:
        # What is missing has an ADD that did not arrive, and was among those that we had not confirmed.
        bound = min(bound, behind, word.at_risk)
    elif mirror.from_empty and same_log:
        # Of what is held at most `behind` flows have ended meanwhile, and what came after the word is not in its count.
        after = max(0, mirror.installed - word.head_sequence)
        bound = min(bound, max(0, bound - mirror.flow_count + behind + after))
    return bound, "at_most"
