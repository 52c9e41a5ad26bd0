"""What makes a certificate unfit: weak keys and signatures, a key of another pair, time, names, use.

Owns: the rules and their words. Must not read files or clocks, and does not decide what happens then: a new
certificate with a fault is refused, the one that is being served goes on with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from cacheserver.tls.facts import CertificateFacts, key_type, utc_text
from cacheserver.tls.names import missing_names

MIN_RSA_BITS: Final = 2048
_MIN_EC_BITS: Final = 256
_WEAK_HASHES: Final = ("md5", "sha1")
_NAMES_SHOWN: Final = 8


class Fault(NamedTuple):
    """One fault that a certificate can be served with, though it should not be: its kind and one line of text."""

    kind: Literal["expired", "early", "names", "use"]
    text: str


def faults(facts: CertificateFacts, *, names: Iterable[str], now_s: float) -> tuple[Fault, ...]:
    """What clients at ``now_s`` (Unix time) that ask by ``names`` would refuse."""
    found = []
    if now_s > facts.not_after_s:
        found.append(Fault("expired", f"certificate expired at {utc_text(facts.not_after_s)}"))
    if now_s < facts.not_before_s:
        found.append(Fault("early", f"certificate is not valid before {utc_text(facts.not_before_s)}"))
    if not facts.names:
        found.append(Fault("names", "certificate has no subjectAltName; no client accepts it"))
    elif missing := missing_names(names, facts.names):
        held = ", ".join(facts.names[:_NAMES_SHOWN])
        found.append(Fault("names", f"certificate is not for {', '.join(missing[:_NAMES_SHOWN])}; it holds {held}"))
    if not facts.for_servers:
        found.append(Fault("use", "certificate is not for TLS servers (its extended key usage lacks serverAuth)"))
    return tuple(found)


def weakness(certificate: x509.Certificate) -> str | None:
    """Why key or signature of a certificate are too weak or of a kind that clients do not take; None: they are fine."""
    if (reason := weak_key(certificate.public_key())) is not None:
        return reason
    try:
        used = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return f"signature algorithm {certificate.signature_algorithm_oid.dotted_string} is unknown"
    if used is not None and used.name in _WEAK_HASHES and certificate.subject != certificate.issuer:
        return f"signed with {used.name.upper().replace('SHA1', 'SHA-1')}, which clients refuse; ask for SHA-256"
    return None


def weak_key(key: object) -> str | None:
    """Why a public or private key is not fit for a server; None: it is."""
    kind = key_type(key)
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return None if key.key_size >= MIN_RSA_BITS else f"key is {kind}; RSA needs at least {MIN_RSA_BITS} bits"
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return None if key.key_size >= _MIN_EC_BITS else f"key is {kind}; EC needs at least P-256"
    return f"key is {kind}; clients of Delivery Optimization take RSA and EC P-256 or P-384"


def belongs(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    """Whether ``certificate`` was issued for ``key``."""
    return certificate.public_key() == key.public_key()
