"""Certificate authorities: one of a single step for local TLS servers, and one of two steps as companies have it.

Owns making certificates, good ones and some with one thing wrong, in memory and as PEM files. Keys are P-256, so that
making them costs a millisecond, unless a test wants another kind.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
NAME = "cache.example.test"


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """PKCS#8 without a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def cert_pem(*certificates: x509.Certificate) -> bytes:
    """Certificates one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


@dataclass(frozen=True, slots=True)
class Issued:
    """A key, its certificate and the intermediate that issued it."""

    key: Key
    certificate: x509.Certificate
    intermediate: x509.Certificate

    @property
    def chain_pem(self) -> bytes:
        """What a server sends."""
        return cert_pem(self.certificate, self.intermediate)

    @property
    def serial(self) -> int:
        """Tells certificates apart."""
        return self.certificate.serial_number


class Authority:
    """A certificate authority that lives in ``folder``; ``ca_file`` is its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = new_key()
        self._name = _name("test authority")
        key = self._key.public_key()
        self._certificate = _authority(self._name, self._name, key, (-1, 30)).sign(self._key, hashes.SHA256())
        self.ca_file = str(folder / "ca.pem")
        Path(self.ca_file).write_bytes(cert_pem(self._certificate))

    def server_context(
        self, *, name: str = "localhost", days: tuple[int, int] = (-1, 30), self_signed: bool = False
    ) -> ssl.SSLContext:
        """A server's context with a leaf for ``name`` (or an IP address), valid from and until so many days from now.

        ``self_signed``: signed by its own key and not by this authority.
        """
        key = new_key()
        subject = _name(name)
        issuer, signer = (subject, key) if self_signed else (self._name, self._key)
        leaf = (
            _builder(subject, issuer, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        path = self._folder / f"leaf-{leaf.serial_number}.pem"
        path.write_bytes(key_pem(key) + cert_pem(leaf))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


class Pki:
    """A root and an intermediate; ``intermediate_days`` is when the second is valid, from now."""

    def __init__(self, *, intermediate_days: tuple[float, float] = (-2, 60)) -> None:
        self._root_key, self._key = new_key(), new_key()
        root, middle = _name("test root"), _name("test issuing")
        self.root = _authority(root, root, self._root_key.public_key(), (-3, 90)).sign(self._root_key, hashes.SHA256())
        self.intermediate = _authority(middle, root, self._key.public_key(), intermediate_days).sign(
            self._root_key, hashes.SHA256()
        )

    def issue(
        self,
        *names: str,
        key: Key | None = None,
        days: tuple[float, float] = (-1, 30),
        uses: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
    ) -> Issued:
        """A certificate for ``names`` (``NAME`` without any), valid from and until so many days from now."""
        key = new_key() if key is None else key
        wanted = names or (NAME,)
        builder = (
            _builder(_name(wanted[0] or "no name"), self.intermediate.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if all(wanted):
            alternatives = [_alternative(name) for name in wanted]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return Issued(key, builder.sign(self._key, hashes.SHA256()), self.intermediate)

    def write_issuer(self, folder: Path) -> tuple[Path, Path]:
        """Certificate and key of the intermediate as files, for other programs that sign."""
        return write_pair(folder, cert_pem(self.intermediate), key_pem(self._key), stem="issuer")


def write_pair(folder: Path, certificate: bytes, key: bytes, *, stem: str = "node") -> tuple[Path, Path]:
    """Write both, the key with mode 0600, each renamed over what was there; certificate and key path."""
    paths = folder / f"{stem}.pem", folder / f"{stem}.key"
    for path, data in zip(paths, (certificate, key), strict=True):
        replace(path, data)
    return paths


def replace(path: Path, data: bytes) -> None:
    """Rename a new file of mode 0600 over ``path``."""
    beside = path.with_suffix(path.suffix + ".tmp")
    beside.write_bytes(data)
    beside.chmod(0o600)
    os.replace(beside, path)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: tuple[float, float]
) -> x509.CertificateBuilder:
    return (
        _builder(subject, issuer, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    days: tuple[float, float],
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
