"""proto/pair.md §4a: no certificate promises more than is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasyncd.core.effects import ReportRole
from hasyncd.core.types import Role
from tests.sim.checkers import Broken

if TYPE_CHECKING:
    from tests.sim.shell import Shell
    from tests.sim.simulator import World


class CertificatesHold:
    """Of the flows that the primary had when it said its last word, and still had in the end, no more are missing than
    the certificate says.
    """

    def __init__(self) -> None:
        self._had: dict[tuple[int, int], frozenset[int]] = {}
        """Keys of flows, by boot id and the head of the log."""
        self._excused: set[int] = set()
        self.blind = False
        """Bytes of a stream were changed on the way, and digests may not have told yet."""

    def excuse(self, keys: set[int]) -> None:
        """Memory lost them, and no digest has told yet."""
        self._excused |= keys

    def note_word(self, shell: Shell) -> None:
        if shell.role is Role.PRIMARY:
            self._had[shell.boot_id, shell.table.head] = frozenset(shell.table.keys)

    def see(self, world: World, shell: Shell, report: ReportRole) -> None:
        certificate, word = report.certificate, shell.node._liveness.beat
        other = world.shells[1 - shell.index]
        if self.blind or certificate is None or certificate.flows_missing is None or word is None:
            return
        if word.role is not Role.PRIMARY or word.boot_id != other.boot_id:
            return
        had = self._had.get((word.boot_id, word.head_sequence), frozenset())
        missing = len((had & other.table.keys) - shell.table.keys - self._excused)
        if missing > certificate.flows_missing:
            raise Broken(
                f"{shell.name}'s certificate says {certificate.flows_missing_is} {certificate.flows_missing} "
                f"flows are missing: {missing} are"
            )
