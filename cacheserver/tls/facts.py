"""What a certificate says: the facts that the log, the status, ``tls show`` and the checks share.

Owns: reading them out of a parsed certificate. Must not judge them (``checks`` does) nor read files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

DAY_S: Final = 86_400.0
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_SERVER_USES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate with its chain. Times are Unix seconds, the fingerprint is SHA-256 in lower-case hex.

    ``names`` are the DNS names and addresses of its subjectAltName; ``chain`` the subjects of the certificates that
    are sent along, nearest issuer first; ``for_servers`` whether its uses, if it names any, include TLS servers.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    chain: tuple[str, ...]
    not_before_s: float
    not_after_s: float
    key_type: str
    fingerprint: str
    for_servers: bool

    def days_left(self, now_s: float) -> float:
        """Days until it ends; negative afterwards."""
        return (self.not_after_s - now_s) / DAY_S

    def plain(self, now_s: float) -> dict[str, Any]:
        """The facts as JSON values."""
        return {
            "subject": self.subject,
            "names": list(self.names),
            "issuer": self.issuer,
            "chain": list(self.chain),
            "not_before": utc_text(self.not_before_s),
            "not_after": utc_text(self.not_after_s),
            "days_left": round(self.days_left(now_s), 1),
            "key_type": self.key_type,
            "fingerprint_sha256": self.fingerprint,
        }


def certificate_facts(leaf: x509.Certificate, chain: list[x509.Certificate]) -> CertificateFacts:
    """The facts of ``leaf``. ValueError for extensions that cannot be parsed."""
    return CertificateFacts(
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        names=alternative_names(leaf.extensions),
        chain=tuple(certificate.subject.rfc4514_string() for certificate in chain),
        not_before_s=leaf.not_valid_before_utc.timestamp(),
        not_after_s=leaf.not_valid_after_utc.timestamp(),
        key_type=key_type(leaf.public_key()),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        for_servers=_for_servers(leaf),
    )


def alternative_names(extensions: x509.Extensions) -> tuple[str, ...]:
    """DNS names and addresses of a subjectAltName; empty without one."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = tuple(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return tuple(names.get_values_for_type(x509.DNSName)) + addresses


def key_type(key: object) -> str:
    """``RSA 2048``, ``EC P-256``, or the name of another algorithm."""
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
    return type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey").lstrip("_")


def utc_text(wall_s: float) -> str:
    """``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _for_servers(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(use in _SERVER_USES for use in uses)
