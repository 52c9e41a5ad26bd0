"""New keys, requests for certificates (PKCS#10, RFC 2986), and self-signed certificates for a lab.

Owns: making them in memory. Must not write files (``install`` does); a request never holds the private key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ServerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_COMMON_NAME_LIMIT: Final = 64
_CLOCK_SKEW: Final = timedelta(minutes=5)

KEY_TYPES: Final[dict[str, Callable[[], ServerKey]]] = {
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa4096": lambda: rsa.generate_private_key(65537, 4096),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}
"""Makers of keys by the word of ``--key-type``."""


def key_pem(key: PrivateKeyTypes) -> bytes:
    """The key as unencrypted PKCS#8 in PEM; for a file of mode 0600 and nothing else."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request_pem(key: ServerKey, names: Sequence[str]) -> bytes:
    """A certificate request in PEM for ``names`` (as of ``tls.names``), the first one as common name."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(names))
    for extension, critical in _extensions(key, names):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, _hash(key)).public_bytes(Encoding.PEM)


def self_signed_pem(key: ServerKey, names: Sequence[str], *, days: int, now_s: float) -> bytes:
    """A certificate that ``key`` has signed itself, in PEM, valid for ``days`` from ``now_s`` (Unix time)."""
    now = datetime.fromtimestamp(now_s, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(names))
        .issuer_name(_subject(names))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for extension, critical in _extensions(key, names):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, _hash(key)).public_bytes(Encoding.PEM)


def _subject(names: Sequence[str]) -> x509.Name:
    fitting = [name for name in names if len(name) <= _COMMON_NAME_LIMIT]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fitting[0] if fitting else "cacheserver")])


def _hash(key: ServerKey) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256 else hashes.SHA256()


def _extensions(key: ServerKey, names: Sequence[str]) -> list[tuple[x509.ExtensionType, bool]]:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=isinstance(key, rsa.RSAPrivateKey),
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return [
        (x509.SubjectAlternativeName([_alternative(name) for name in names]), False),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
