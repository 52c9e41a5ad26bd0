"""The TLS context of the content listener: certificate and key from files, HTTP/1.1 only, taken up again on reload.

Owns: the context. Must not know what is served. Clients of Delivery Optimization look header fields up by case, and
over HTTP/2 names are lower case, so that h2 is never offered.
"""

from __future__ import annotations

import os
import ssl
import stat
from typing import Annotated

import msgspec
from msgspec import Meta

from cacheserver.core.errors import ConfigError


class TlsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Certificate of the content listener's TLS addresses."""

    certificate: Annotated[str, Meta(description="PEM file with the certificate and its chain; empty: no TLS.")] = ""
    key: Annotated[str, Meta(description="PEM file with its private key, readable by the node's user only.")] = ""


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """A new context with the files of ``options``. ConfigError with the reason when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    load_into(context, options)
    return context


def load_into(context: ssl.SSLContext, options: TlsOptions) -> None:
    """Read the files into a running context: new handshakes use them, connections go on. ConfigError on trouble."""
    if not options.certificate or not options.key:
        raise ConfigError("a TLS listener needs both certificate and key", key="tls")
    try:
        loose = stat.S_IMODE(os.stat(options.key).st_mode) & 0o077
    except OSError as exc:
        raise ConfigError(f"key cannot be read: {os.strerror(exc.errno or 0)}", key="tls.key") from exc
    if loose:
        raise ConfigError("key is readable by other users; chmod 600", key="tls.key")
    try:
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trial.load_cert_chain(options.certificate, options.key)
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as exc:
        reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or "unreadable"
        raise ConfigError(f"certificate cannot be used: {reason}", key="tls.certificate") from exc
