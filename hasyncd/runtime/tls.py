"""TLS 1.3 between the nodes as a transformation of bytes; proto/sync.md §11.

Who owns the socket stays with `DeltaStream`: what write(2) has accepted must be known (proto/sync.md §6).
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from hasyncd.runtime.pair_keys import PairKeys

_PLAIN_BYTES: Final = 262_144


class Untrusted(Exception):
    """What came is not from the other node of the pair; says why."""


class PeerRefused(Exception):
    """The peer does not trust us; says why."""


class TlsSession:
    """One connection's TLS: `shake` until True, then `encrypt` and `decrypt`."""

    def __init__(self, keys: PairKeys, *, accepted: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = keys.server if accepted else keys.client
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=accepted)
        self._peer = keys.peer
        self._plain = bytearray()
        self.ended = False
        """Nothing more will be said: the peer has ended it, or `failure` has."""
        self.failure: Untrusted | PeerRefused | None = None

    def shake(self, received: bytes) -> bool:
        """Goes on with the handshake; True when it is done and the peer is who it must be.

        `outgoing` is to be sent after each call, also one that raises Untrusted or PeerRefused.
        """
        self._incoming.write(received)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise _judged(error) from error
        name = self._name_of_peer()
        if name != self._peer:
            raise Untrusted(f"the certificate is of {name!r}, the peer is {self._peer}")
        return True

    def outgoing(self) -> bytes:
        """What the handshake wants to be sent."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """The records that carry `data`; all of it, whatever its size. Nothing once it has ended."""
        if self.ended:
            return b""
        # A memory BIO takes everything, so that one call is enough.
        self._tls.write(data)
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> bytes:
        """What was said up to here; nothing while a record is not complete. A record that is not genuine
        ends it: what stood before it is still returned, `ended` and `failure` say so.
        """
        self._incoming.write(received)
        if not self._plain:
            self._plain = bytearray(_PLAIN_BYTES)
        whole: list[bytes] = []
        filled = 0
        with memoryview(self._plain) as room:
            while not self.ended:
                if filled == len(room):
                    whole.append(bytes(room))
                    filled = 0
                try:
                    # One record a call, of 16 KiB at most.
                    count = self._tls.read(len(room) - filled, room[filled:])
                except ssl.SSLWantReadError:
                    break
                except ssl.SSLZeroReturnError:
                    self.ended = True
                    break
                except ssl.SSLError as error:
                    self.ended, self.failure = True, _judged(error)
                    break
                if not count:
                    self.ended = True
                    break
                filled += int(count)
            whole.append(bytes(room[:filled]))
        return b"".join(whole)

    def _name_of_peer(self) -> str | None:
        """The one common name of the certificate, which was verified; None where there is not one."""
        certificate: dict[str, Any] = self._tls.getpeercert() or {}
        names: list[str] = [
            value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"
        ]
        return names[0] if len(names) == 1 else None


def _judged(error: ssl.SSLError) -> Untrusted | PeerRefused:
    reason = getattr(error, "verify_message", None) or error.reason or str(error)
    told = str(reason).lower().replace("_", " ")
    return PeerRefused(told) if " alert " in f" {told} " else Untrusted(told)
