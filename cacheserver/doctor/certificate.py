"""Checks of the node's certificate: the files, the names in it, and what the running node presents."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Iterable
from typing import Final

from cacheserver.core.errors import ConfigError
from cacheserver.core.units import address_text
from cacheserver.doctor.check import Check, named
from cacheserver.doctor.context import Context
from cacheserver.doctor.dialer import dropped
from cacheserver.outgoing.session import client_context, unverified_context
from cacheserver.tls.facts import CertificateFacts, utc_text
from cacheserver.tls.names import missing_names
from cacheserver.tls.pair import read_pair

_SOON_DAYS: Final = 14
_HANDSHAKE_S: Final = 5.0


async def certificate_checks(context: Context) -> list[Check]:
    """Files, names, and the handshake of every TLS listener."""
    options = context.settings.tls
    if not context.settings.server.listen_tls:
        hint = "Teams and Intune content over https goes past the node; set server.listen_tls and [tls] to serve it"
        return [Check("certificate", "ok", "TLS", "no TLS listener is set", hint)]
    what = f"certificate {options.certificate or '(none)'}"
    try:
        facts = read_pair(options).facts
    except ConfigError as exc:
        return [Check("certificate", "fail", what, str(exc), "correct [tls]; the node serves no TLS client with it")]
    checks = [_validity(what, facts, context.wall_s()), _names(what, facts, context.options.names)]
    for address in context.content_addresses(tls=True):
        checks.append(await _presented(context, facts, address))
    return checks


def _validity(what: str, facts: CertificateFacts, now_s: float) -> Check:
    advice = "have it renewed, and put certificate and key in place; SIGHUP takes them up"
    if now_s >= facts.not_after_s:
        return Check("certificate", "fail", what, f"expired on {utc_text(facts.not_after_s)[:10]}", advice)
    if now_s < facts.not_before_s:
        found = f"is not valid before {utc_text(facts.not_before_s)}"
        return Check("certificate", "fail", what, found, "see the line clock; or take the right certificate")
    days = int(facts.days_left(now_s))
    if days < _SOON_DAYS:
        return Check("certificate", "warn", what, f"expires in {days} days", advice)
    return Check("certificate", "ok", what, f"matches its key, valid for {days} days")


def _names(what: str, facts: CertificateFacts, asked: tuple[str, ...]) -> Check:
    what = f"names in {what}"
    if not facts.names:
        return Check("names", "fail", what, "none: clients accept no certificate without", "ask for one with SANs")
    missing = uncovered(asked, facts.names)
    if missing:
        found = f"{named(missing)} not among {named(list(facts.names))}"
        return Check("names", "fail", what, found, "ask for a certificate with every name that clients use")
    hint = "" if asked else "give the names that clients use with --name to have them compared"
    return Check("names", "ok", what, named(list(facts.names)), hint)


def uncovered(asked: Iterable[str], held: Iterable[str]) -> list[str]:
    """Those of the names by which clients ask that the names in a certificate do not cover."""
    return missing_names([name.lower().rstrip(".") for name in asked], held)


async def _presented(context: Context, facts: CertificateFacts, address: tuple[str, int]) -> Check:
    what = f"TLS handshake with {address_text(*address)}"
    options = context.options
    der, error = await _handshake(address, unverified_context(), None)
    if der is None:
        return Check("handshake", "fail", what, error, "see the lines port and certificate")
    if hashlib.sha256(der).hexdigest() != facts.fingerprint:
        found = "the running node presents another certificate than the file holds"
        return Check("handshake", "warn", what, found, "send it SIGHUP (systemctl reload cacheserver)")
    strict = client_context(options.ca_file)
    name = next((name for name in (*options.names, *facts.names) if not name.startswith("*")), address[0])
    _, error = await _handshake(address, strict, name)
    if error and options.ca_file:
        return Check("handshake", "fail", what, f"not trusted as {name}: {error}", "send the whole chain in the file")
    if error:
        hint = "clients must trust its authority; name that with --ca-file"
        return Check("handshake", "warn", what, f"this machine does not trust it as {name}: {error}", hint)
    return Check("handshake", "ok", what, f"trusted as {name}")


async def _handshake(address: tuple[str, int], tls: ssl.SSLContext, name: str | None) -> tuple[bytes | None, str]:
    """The certificate that was presented, or why there was none."""
    try:
        async with asyncio.timeout(_HANDSHAKE_S):
            _reader, writer = await asyncio.open_connection(
                *address, ssl=tls, server_hostname=name if name is not None else address[0]
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
