"""A certificate and its key, read from the two files of the options, checked, and ready for handshakes.

Owns: reading the pair, what makes it unusable, the signature of the files by which a replacement is noticed, and
putting a pair into a running context. Holds no state; every function may run in any thread. A usable pair can still
have faults (``checks.faults``).
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from cacheserver.core.errors import ConfigError
from cacheserver.system.memory_file import named_in_memory
from cacheserver.system.secret_file import restoring
from cacheserver.tls import checks
from cacheserver.tls.facts import CertificateFacts, certificate_facts
from cacheserver.tls.formats import pem_certificates, private_key, read_bytes
from cacheserver.tls.options import TlsOptions

Signature = tuple[tuple[int, ...], ...]
"""Device, inode, size and times of each file behind its links; minus the error number where there is none."""

_LOOSE: Final = 0o027
"""Readable by all or writable by a group. A group may read: service accounts and mounted secrets work that way."""

# Mozilla's "intermediate" list without finite-field Diffie-Hellman; TLS 1.3 suites are OpenSSL's own.
_CIPHERS: Final = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A loaded pair: the context that holds it, its facts, and the files that it came from."""

    context: ssl.SSLContext
    facts: CertificateFacts
    signature: Signature


def policy_context() -> ssl.SSLContext:
    """A server's context without a certificate: TLS 1.2 and 1.3, forward secrecy, HTTP/1.1 only, no renegotiation.

    Clients of Delivery Optimization look header fields up by case, and over HTTP/2 names are lower case: h2 is never
    offered.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # all of the list are good: the client knows what it is fast at
    return context


def hand_over(context: ssl.SSLContext, pair: Pair) -> None:
    """From now on every handshake on ``context`` gets the certificate of ``pair``; may be called in any thread.

    ``context`` holds no certificate itself: one that is loaded a second time would keep the certificate of another key
    type beside the new one. Its ticket keys stay, so that sessions can be resumed across a change.
    """

    def choose(handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = pair.context

    context.sni_callback = choose  # called for clients that name no server, too


def signature_of(options: TlsOptions) -> Signature:
    """What changes when either file, or a symbolic link on the way to it, is replaced or written."""
    return tuple(_file_signature(path) for path in (options.certificate, options.key))


def _file_signature(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as exc:
        return (-(exc.errno or 0),)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_pair(options: TlsOptions) -> Pair:
    """Read and check the pair. ConfigError: missing, unreadable, half written, weak, or not of one another."""
    if not options.certificate or not options.key:
        raise ConfigError("a TLS listener needs both certificate and key", key="tls")
    before = signature_of(options)
    key_pem, key = _read_key(options.key)
    chain_pem, facts = _read_certificate(options.certificate, key)
    context = policy_context()
    try:
        with named_in_memory(chain_pem) as chain_file, named_in_memory(key_pem) as key_file:
            context.load_cert_chain(chain_file, key_file, password="")
    except (OSError, ssl.SSLError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or "unusable"
        raise _refused(options.certificate, f"cannot be loaded: {reason}", "certificate") from exc
    if signature_of(options) != before:
        raise _refused(options.certificate, "changed while it was read", "certificate")
    return Pair(context, facts, before)


def key_is_exposed(path: str) -> bool:
    """Whether others than the node's user and group can read or change a key; False where there is none."""
    try:
        return bool(stat.S_IMODE(os.stat(path).st_mode) & _LOOSE)
    except OSError:
        return False


def _read_key(path: str) -> tuple[bytes, PrivateKeyTypes]:
    try:
        if key_is_exposed(path):
            raise ValueError(f"can be read by everyone or written by a group; {restoring(path)}")
        data = read_bytes(path)
        return data, private_key(data)
    except OSError as exc:
        raise _refused(path, f"cannot be read: {exc.strerror}", "key") from exc
    except ValueError as exc:
        raise _refused(path, str(exc), "key") from exc


def _read_certificate(path: str, key: PrivateKeyTypes) -> tuple[bytes, CertificateFacts]:
    try:
        data = read_bytes(path)
        leaf, *chain = pem_certificates(data)
        if not checks.belongs(leaf, key):
            if any(checks.belongs(certificate, key) for certificate in chain):
                raise ValueError("has the certificate of tls.key behind others; it must be the first")
            raise ValueError("does not belong to tls.key: it was issued for another key")
        for certificate in (leaf, *chain):
            if (reason := checks.weakness(certificate)) is not None:
                raise ValueError(f"is too weak: {reason}")
        return data, certificate_facts(leaf, chain)
    except OSError as exc:
        raise _refused(path, f"cannot be read: {exc.strerror}", "certificate") from exc
    except UnsupportedAlgorithm as exc:
        raise _refused(path, "has a key of an unknown kind", "certificate") from exc
    except ValueError as exc:
        raise _refused(path, str(exc), "certificate") from exc


def _refused(path: str, message: str, key: str) -> ConfigError:
    return ConfigError(message, where=ascii(path)[1:-1], key=f"tls.{key}")
