"""Why a role changed, as a word: what the core says in a sentence, with figures in it, counts under one of these."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"

REASONS: Final = {
    "process_dead": ("the primary's process is dead", "The primary's process died, and its kernel said so."),
    "peer_silent": ("the primary is silent", "The primary was not heard for `dead_after_ms`."),
    "peer_restarted": ("the peer has started anew", "The primary came back empty: it had died unseen."),
    "peer_left": ("the primary has left", "The primary ended without a hand-over, or is in fault."),
    "handed_over": ("the primary handed over", "A planned hand-over, told by the primary."),
    "forced": ("an operator forced it", "`switchover --force`."),
    "first_election": ("listen ended", "The start was over, and nobody else was to lead."),
    "nobody_leads": ("nobody leads", "Both were backups, which is settled by a new election."),
    "outranked": ("heard a primary of higher rank", "After a split the other node goes on."),
    "heard_primary": ("heard a primary", "There is a primary: this node follows."),
    "switchover": ("an operator's switchover", "This node handed over as it was told to."),
    "stopping": ("stopping", "This node handed over because it ends."),
    "fitter_peer": ("the peer is fitter", "This node handed over to a fitter machine."),
    "fault": ("fault: ", "This node cannot work: an interface or its state directory is gone."),
    "fault_cleared": ("fault cleared", "What kept this node from working is over."),
}
"""Word: (how the core's sentence begins, what it means). The first that fits counts."""

FAILOVERS: Final = ("process_dead", "peer_silent", "peer_restarted", "peer_left")
"""Promotions that nobody had planned."""
TO_PRIMARY: Final = (*FAILOVERS, "handed_over", "forced", "first_election")


def reason_word(sentence: str) -> str:
    """`other` for a sentence that no word is known for."""
    return next((word for word, (begin, _) in REASONS.items() if sentence.startswith(begin)), OTHER)
