"""What an authority sent back, put in the order that a server sends: the certificate first, then each one's issuer.

Owns: finding the certificate of a key among several, the order, and refusing what clients would refuse. Must not write
files (``install`` does) nor read a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from cacheserver.tls import checks
from cacheserver.tls.facts import CertificateFacts, certificate_facts, utc_text


@dataclass(frozen=True, slots=True)
class Chain:
    """The certificate and its issuers in order, without a root; ``left_out`` are subjects that are not part of it.

    ``complete``: the last issuer is a root that was in the files, so that the order was proved to its end.
    """

    certificates: tuple[x509.Certificate, ...]
    facts: CertificateFacts
    left_out: tuple[str, ...]
    complete: bool

    def pem(self) -> bytes:
        """The file that a server reads."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.certificates)


def chain_for(
    key: PrivateKeyTypes, certificates: Sequence[x509.Certificate], *, names: Iterable[str], now_s: float
) -> Chain:
    """The chain of ``key`` out of ``certificates`` in any order. ValueError with the reason where none is fit.

    ``names`` is what the certificate must cover, ``now_s`` Unix time.
    """
    own = [certificate for certificate in certificates if checks.belongs(certificate, key)]
    if not own:
        raise ValueError("no certificate in it belongs to the key: it was issued for another one")
    leaf = max(own, key=lambda certificate: certificate.not_valid_after_utc)
    ordered, root = _ordered(leaf, certificates)
    facts = certificate_facts(leaf, ordered[1:])
    if found := checks.faults(facts, names=names, now_s=now_s):
        raise ValueError(found[0].text)
    for certificate in ordered:
        _check_member(certificate, leaf, now_s)
    used = {*ordered, *own} if root is None else {*ordered, *own, root}
    left_out = tuple(
        certificate.subject.rfc4514_string() for certificate in dict.fromkeys(certificates) if certificate not in used
    )
    return Chain(tuple(ordered), facts, left_out, root is not None or _self_issued(leaf))


def _check_member(certificate: x509.Certificate, leaf: x509.Certificate, now_s: float) -> None:
    whose = "" if certificate == leaf else f"issuer {certificate.subject.rfc4514_string()}: "
    if (reason := checks.weakness(certificate)) is not None:
        raise ValueError(f"too weak: {whose}{reason}")
    if now_s > (ends_s := certificate.not_valid_after_utc.timestamp()):
        raise ValueError(f"{whose}certificate expired at {utc_text(ends_s)}")


def _ordered(
    leaf: x509.Certificate, certificates: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], x509.Certificate | None]:
    """The chain from ``leaf`` on without its root, and the root where one was there."""
    ordered = [leaf]
    while not _self_issued(ordered[-1]):
        issuers = [other for other in certificates if other not in ordered and _issued(ordered[-1], other)]
        if not issuers:
            return ordered, None
        issuer = max(issuers, key=lambda other: (_self_issued(other), other.not_valid_after_utc))
        if _self_issued(issuer):
            return ordered, issuer  # clients hold it, or do not believe it
        ordered.append(issuer)
    return ordered, None


def _self_issued(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
