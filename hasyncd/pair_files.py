"""The files that make two nodes a pair: their names, and how they are made.

One directory a node. The authority that signs both certificates forgets its own key: nobody, not even
its owner, can add a third node to a pair; new keys are a new pair.
"""

from __future__ import annotations

import datetime
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hasyncd.config_values import NAME

AUTHORITY: Final = "ca.crt"
CERTIFICATE: Final = "node.crt"
PRIVATE_KEY: Final = "node.key"
SECRET: Final = "pair.secret"
SECRET_BYTES: Final = 32
DAYS: Final = 3650

# A machine whose clock is not set yet at boot must still find its peer.
_VALID_FROM: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_SECRET_FILE: Final = """\
# The same file on both nodes. Whoever has it can speak for either of them.
nodes = ["{}", "{}"]
secret = "{}"
"""


class PairFilesError(Exception):
    """The files cannot be made; says why."""


def make_pair_files(
    directory: Path, nodes: tuple[str, str], *, days: int = DAYS, force: bool = False
) -> None:
    """Makes `directory`/NODE for both nodes. Raises PairFilesError."""
    _check(directory, nodes, force=force)
    authority_key = Ed25519PrivateKey.generate()
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    authority = _authority(authority_key, nodes, until)
    secret = _SECRET_FILE.format(*nodes, secrets.token_hex(SECRET_BYTES))
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for node in nodes:
            folder = directory / node
            if force and folder.is_dir():
                shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
            key = Ed25519PrivateKey.generate()
            certificate = _certificate(node, key, authority, authority_key, until)
            _write(folder / AUTHORITY, authority.public_bytes(serialization.Encoding.PEM))
            _write(folder / CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))
            _write(folder / PRIVATE_KEY, _pem(key))
            _write(folder / SECRET, secret.encode())
    except OSError as error:
        raise PairFilesError(f"{error.filename}: {error.strerror}") from error


def _check(directory: Path, nodes: tuple[str, str], *, force: bool) -> None:
    for node in nodes:
        if not NAME.fullmatch(node):
            raise PairFilesError(f"{node!r} is no name of a node")
    if nodes[0] == nodes[1]:
        raise PairFilesError(f"a pair has two names, not {nodes[0]!r} twice")
    taken = [directory / node for node in nodes if (directory / node).exists()]
    if taken and not force:
        raise PairFilesError(f"{taken[0]} is there already; --force replaces the keys of a pair")


def _authority(key: Ed25519PrivateKey, nodes: tuple[str, str], until: datetime.datetime) -> x509.Certificate:
    # Its name is at most 64 characters (RFC 5280), so it cannot hold both names of nodes.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"hasyncd pair {secrets.token_hex(8)}")])
    return (
        _builder(name, name, key, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )


def _certificate(
    node: str,
    key: Ed25519PrivateKey,
    authority: x509.Certificate,
    authority_key: Ed25519PrivateKey,
    until: datetime.datetime,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(name, authority.subject, key, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            # Either node connects to the other, as the roles have it.
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(authority_key, None)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Ed25519PrivateKey, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(until)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
