"""Reads the keys that `hasyncd keygen` made for this node; proto/pair.md §8, proto/sync.md §11."""

from __future__ import annotations

import datetime
import os
import ssl
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from hasyncd.core import seal
from hasyncd.pair_files import AUTHORITY, CERTIFICATE, PRIVATE_KEY, SECRET


class PairKeysError(Exception):
    """`peer.keys` cannot be used; says why, one line a finding."""


@dataclass(frozen=True, slots=True)
class PairKeys:
    """What this node proves itself with, and its peer by."""

    peer: str
    """The name of the other node: the only one whose certificate is taken."""
    sending: bytes
    """Seals our heartbeats."""
    receiving: bytes
    """Opens the peer's."""
    server: ssl.SSLContext
    client: ssl.SSLContext
    expires: datetime.datetime
    """When the first of the certificates ends."""


def load_pair_keys(directory: Path, node: str, key_log: Path | None = None) -> PairKeys:
    """The keys of `node` in `directory`; with `key_log` the secrets of every stream are written there, in the
    format that Wireshark reads. Raises PairKeysError.
    """
    findings = [finding for name in (SECRET, PRIVATE_KEY, CERTIFICATE, AUTHORITY)
                if (finding := _unusable(directory / name)) is not None]  # fmt: skip
    if findings:
        raise PairKeysError("\n".join(findings))
    peer, secret = _read_secret(directory / SECRET, node)
    expires = _check_certificates(directory, node)
    if key_log is not None:
        _make_key_log(key_log)
    return PairKeys(
        peer,
        seal.derive_key(secret, node, peer),
        seal.derive_key(secret, peer, node),
        _context(directory, ssl.PROTOCOL_TLS_SERVER, key_log),
        _context(directory, ssl.PROTOCOL_TLS_CLIENT, key_log),
        expires,
    )


def _unusable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            file.read(1)
    except OSError as error:
        return f"peer.keys: {path}: {error.strerror}"
    # Certificates are public; what others may write is not ours either way.
    if path.name in (SECRET, PRIVATE_KEY) and mode & 0o077:
        return f"peer.keys: {path}: mode {mode:04o} lets others in; chmod 600"
    if mode & 0o022:
        return f"peer.keys: {path}: mode {mode:04o} lets others write; chmod 600"
    return None


def _read_secret(path: Path, node: str) -> tuple[str, bytes]:
    """(the peer's name, the secret)."""
    try:
        content = tomllib.loads(path.read_text())
        nodes, secret = content["nodes"], bytes.fromhex(content["secret"])
        if not all(isinstance(name, str) for name in nodes) or len(set(nodes)) != 2:
            raise ValueError
        if len(secret) != seal.SECRET_BYTES:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise PairKeysError(f"peer.keys: {path}: is no secret that `hasyncd keygen` made") from None
    if node not in nodes:
        raise PairKeysError(f"peer.keys: {path}: is of the pair {nodes[0]} and {nodes[1]}; this is {node}")
    return next(name for name in nodes if name != node), secret


def _check_certificates(directory: Path, node: str) -> datetime.datetime:
    """That the certificate is this node's, of this authority and not over; when the first one ends."""
    now = datetime.datetime.now(datetime.UTC)
    try:
        authority, certificate = (
            x509.load_pem_x509_certificate((directory / name).read_bytes())
            for name in (AUTHORITY, CERTIFICATE)
        )
    except ValueError:
        raise PairKeysError(f"peer.keys: {directory}: {AUTHORITY} or {CERTIFICATE} is none") from None
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [node]:
        raise PairKeysError(f"peer.keys: {directory / CERTIFICATE}: is of {', '.join(names)}; this is {node}")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise PairKeysError(
            f"peer.keys: {directory / CERTIFICATE}: is not signed by {AUTHORITY} beside it"
        ) from None
    expires = min(authority.not_valid_after_utc, certificate.not_valid_after_utc)
    if expires <= now:
        raise PairKeysError(f"peer.keys: {directory / CERTIFICATE}: has ended on {expires:%Y-%m-%d}")
    return expires


def _make_key_log(path: Path) -> None:
    """A file that its owner alone can read: OpenSSL, which appends to it, would make one that everybody can."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise PairKeysError(f"peer.key_log: {path}: is no regular file")
            os.fchmod(file, 0o600)
        finally:
            os.close(file)
    except OSError as error:
        raise PairKeysError(f"peer.key_log: {path}: {error.strerror}") from None


def _context(directory: Path, protocol: int, key_log: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The name is compared by `TlsSession`, alike on both sides: a listener's host name means nothing here.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # The accepting side says nothing of its own after the handshake (proto/sync.md §1), and nothing is resumed.
        context.num_tickets = 0
    if key_log is not None:
        context.keylog_filename = str(key_log)
    try:
        context.load_verify_locations(cafile=str(directory / AUTHORITY))
        context.load_cert_chain(str(directory / CERTIFICATE), str(directory / PRIVATE_KEY))
    except ssl.SSLError as error:
        raise PairKeysError(
            f"peer.keys: {directory}: {PRIVATE_KEY} and {CERTIFICATE} do not fit ({error.reason})"
        ) from None
    return context
