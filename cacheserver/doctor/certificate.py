"""Checks of the node's certificate: the files, the names in it, and what the running node presents."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from cacheserver.core.errors import ConfigError
from cacheserver.core.units import address_text, is_ip
from cacheserver.doctor.check import Check, named
from cacheserver.doctor.context import Scene
from cacheserver.doctor.dialer import dropped
from cacheserver.tls import TlsOptions, server_context

_SOON_DAYS: Final = 14
_LEAST_RSA_BITS: Final = 2048
_HANDSHAKE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Leaf:
    """The node's own certificate out of its file."""

    certificate: x509.Certificate
    names: tuple[str, ...]

    def covers(self, name: str) -> bool:
        """Whether a client that asks by ``name`` accepts it (RFC 9525 §6.3: a wildcard stands for one label)."""
        name = name.lower().rstrip(".")
        _, _, zone = name.partition(".")
        return name in self.names or (not is_ip(name) and bool(zone) and f"*.{zone}" in self.names)


async def certificate_checks(scene: Scene) -> list[Check]:
    """Files, names, and the handshake of every TLS listener."""
    options = scene.settings.tls
    if not scene.settings.server.listen_tls:
        hint = "Teams and Intune content over https goes past the node; set server.listen_tls and [tls] to serve it"
        return [Check("certificate", "ok", "TLS", "no TLS listener is set", hint)]
    what = f"certificate {options.certificate or '(none)'}"
    try:
        server_context(options)
        leaf = read_leaf(options)
    except ConfigError as exc:
        return [Check("certificate", "fail", what, str(exc), "correct [tls]; the node refuses to start with it")]
    checks = [_validity(what, leaf, scene.wall_s()), _names(what, leaf, scene.options.names)]
    for address in scene.content_addresses(tls=True):
        checks.append(await _presented(scene, leaf, address))
    return checks


def read_leaf(options: TlsOptions) -> Leaf:
    """The first certificate of the file. Raises ConfigError."""
    try:
        with open(options.certificate, "rb") as file:
            certificate = x509.load_pem_x509_certificates(file.read(1 << 20))[0]
        return Leaf(certificate, _names_in(certificate))
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"cannot be read: {exc}", key="tls.certificate") from exc


def _names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*(name.lower() for name in names.get_values_for_type(x509.DNSName)), *addresses)


def _validity(what: str, leaf: Leaf, now_s: float) -> Check:
    certificate = leaf.certificate
    now = datetime.fromtimestamp(now_s, UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    advice = "have it renewed, and put certificate and key in place; SIGHUP takes them up"
    if now >= ends:
        return Check("certificate", "fail", what, f"expired on {ends:%Y-%m-%d}", advice)
    if now < begins:
        found = f"is not valid before {begins:%Y-%m-%d %H:%M} UTC"
        return Check("certificate", "fail", what, found, "see the line clock; or take the right certificate")
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        found = f"its RSA key of {key.key_size} bits is too short for clients"
        return Check("certificate", "fail", what, found, "make a new key of 2048 bits at least")
    days = (ends - now).days
    if days < _SOON_DAYS:
        return Check("certificate", "warn", what, f"expires in {days} days", advice)
    return Check("certificate", "ok", what, f"matches its key, valid for {days} days")


def _names(what: str, leaf: Leaf, asked: tuple[str, ...]) -> Check:
    what = f"names in {what}"
    if not leaf.names:
        return Check("names", "fail", what, "none: clients accept no certificate without", "ask for one with SANs")
    missing = [name for name in asked if not leaf.covers(name)]
    if missing:
        found = f"{named(missing)} not among {named(list(leaf.names))}"
        return Check("names", "fail", what, found, "ask for a certificate with every name that clients use")
    hint = "" if asked else "give the names that clients use with --name to have them compared"
    return Check("names", "ok", what, named(list(leaf.names)), hint)


async def _presented(scene: Scene, leaf: Leaf, address: tuple[str, int]) -> Check:
    what = f"TLS handshake with {address_text(*address)}"
    options = scene.options
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    der, error = await _handshake(address, unverified, None)
    if der is None:
        return Check("handshake", "fail", what, error, "see the lines port and certificate")
    if der != leaf.certificate.public_bytes(Encoding.DER):
        found = "the running node presents another certificate than the file holds"
        return Check("handshake", "warn", what, found, "send it SIGHUP (systemctl reload cacheserver)")
    strict = ssl.create_default_context(cafile=options.ca_file or None)
    name = next((name for name in (*options.names, *leaf.names) if not name.startswith("*")), address[0])
    _, error = await _handshake(address, strict, name)
    if error and options.ca_file:
        return Check("handshake", "fail", what, f"not trusted as {name}: {error}", "send the whole chain in the file")
    if error:
        hint = "clients must trust its authority; name that with --ca-file"
        return Check("handshake", "warn", what, f"this machine does not trust it as {name}: {error}", hint)
    return Check("handshake", "ok", what, f"trusted as {name}")


async def _handshake(address: tuple[str, int], context: ssl.SSLContext, name: str | None) -> tuple[bytes | None, str]:
    """The certificate that was presented, or why there was none."""
    try:
        async with asyncio.timeout(_HANDSHAKE_S):
            _reader, writer = await asyncio.open_connection(
                *address, ssl=context, server_hostname=name if name is not None else address[0]
            )
    except TimeoutError:
        return None, f"no handshake within {_HANDSHAKE_S:g} s"
    except ssl.SSLCertVerificationError as exc:
        return None, exc.verify_message
    except OSError as exc:
        return None, exc.strerror or str(exc)
    peer = writer.get_extra_info("ssl_object")
    der = peer.getpeercert(binary_form=True)
    await dropped(writer)
    return der, ""
