"""Checks of what origins answer: byte ranges, captive portals, the clock; and HTTPS services that must be reachable.

Owns: one small direct request per test URL, whose answer several checks look at.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from cacheserver.core.cache.redirects import REDIRECTS
from cacheserver.core.errors import MalformedRequest
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.hostname import decode_cache_host_origin
from cacheserver.doctor.check import Check, named
from cacheserver.doctor.context import Context, Reply
from cacheserver.doctor.known_urls import TEST_URLS
from cacheserver.outgoing.session import client_context

_LAST: Final = 9
_RANGE: Final = {"Range": f"bytes=0-{_LAST}"}
_OFF_S: Final = 300.0
_SLIGHTLY_OFF_S: Final = 30.0
_OLDEST_S: Final = datetime(2025, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Probe:
    """The first ten bytes of a test URL, asked of its origin."""

    host: str
    name: str
    reply: Reply
    total_bytes: int | None = None
    """Length of the content, where it is known."""


async def first_probes(context: Context) -> list[Probe]:
    """One probe of each test URL and of each URL of the operator's; made once."""
    return await context.once("probes", lambda: _probe_all(context))


async def _probe_all(context: Context) -> list[Probe]:
    async def probe(url: str, name: str, total_bytes: int | None) -> Probe:
        return Probe(urlsplit(url).hostname or "", name, await context.get(url, headers=_RANGE), total_bytes)

    asked = [probe(url, "own URL", None) for url in context.options.range_urls]
    if any(service.name == "windows-update" for service in context.services()):
        known = [probe(f"http://{one.origin}{one.path}", f"test URL {one.name}", one.length_bytes) for one in TEST_URLS]
        asked = known + asked
    return await asyncio.gather(*asked)


# -- byte ranges and portals ----------------------------------------------------------------------------------------


async def range_checks(context: Context) -> list[Check]:
    """Origins serve the bytes that are asked for."""
    allowlist = AllowList(context.settings.all_services())
    return [_range(probe, allowlist) for probe in await first_probes(context)]


def _range(probe: Probe, allowlist: AllowList) -> Check:
    what = f"byte ranges of {probe.host}, {probe.name}"
    reply = probe.reply
    advice = "see that the node reaches the origin itself, without a proxy that changes answers"
    if reply.error:
        return Check("range", "fail", what, reply.error, "let the firewall pass it (cacheserver firewall-list)")
    if is_portal(reply, allowlist):
        return Check("range", "warn", what, "not known: something else answers in the origin's place")
    if reply.status == 200:
        return Check("range", "fail", what, "Range is ignored: 200 with the whole content", advice)
    if reply.status != 206:
        return Check("range", "fail", what, f"answers {reply.status} to the test URL", advice)
    expected = f"bytes 0-{_LAST}/{probe.total_bytes}"
    got = reply.fields.get("content-range", "none")
    right = got == expected if probe.total_bytes is not None else got.startswith(f"bytes 0-{_LAST}/")
    if not right or reply.length_bytes != _LAST + 1:
        found = f"wrong range: Content-Range {got} with {reply.length_bytes} bytes"
        return Check("range", "fail", what, found, advice)
    return Check("range", "ok", what, f"206, {got}, in {reply.took_s * 1000:.0f} ms")


async def portal_checks(context: Context) -> list[Check]:
    """Nothing stands between this machine and the origins and answers for them."""
    allowlist = AllowList(context.settings.all_services())
    probes = await first_probes(context)
    answered = [probe for probe in probes if not probe.reply.error]
    what = "captive portal: answers in the place of origins"
    portals = [probe for probe in answered if is_portal(probe.reply, allowlist)]
    if portals:
        reply = portals[0].reply
        found = f"{named([probe.host for probe in portals])}: {reply.status} {reply.fields.get('content-type', '')}"
        advice = "log in at the portal, or have the filter pass this machine's requests unchanged"
        return [Check("portal", "fail", what, f"a portal or filter answers: {found}", advice)]
    if not answered:
        return [Check("portal", "warn", what, "not known: no origin answers at all", "see the lines dns and tcp")]
    return [Check("portal", "ok", what, "none; the origins answer themselves")]


def is_portal(reply: Reply, allowlist: AllowList) -> bool:
    """Whether an answer to a test URL, which is never HTML, comes from somebody who wants a login or a click."""
    if reply.status == 511:  # RFC 6585 §6
        return True
    if reply.status in REDIRECTS:
        try:
            host = urlsplit(reply.fields.get("location", "")).hostname
        except ValueError:
            return True
        return host is not None and not _is_allowed(host, allowlist)
    return reply.status == 200 and reply.fields.get("content-type", "").lower().startswith("text/html")


def _is_allowed(host: str, allowlist: AllowList) -> bool:
    try:
        return allowlist.match(decode_cache_host_origin(host).host) is not None
    except MalformedRequest:
        return False


# -- HTTPS services -------------------------------------------------------------------------------------------------


async def _answers(context: Context) -> dict[str, Reply]:
    """The answers of the HTTPS services, by host."""
    trust = context.settings.trust
    tls = client_context(trust.ca_file or context.settings.upstream.ca_file)
    known = [trust.content_policy_url, *([trust.edge_cdp_url] if trust.edge_cdp else [])]
    known += [f"https://{host}" for host in context.options.endpoints]
    places = dict.fromkeys((part.hostname, part.port or 443) for part in map(urlsplit, known) if part.hostname)
    urls = [f"https://{host}/" if port == 443 else f"https://{host}:{port}/" for host, port in places]
    replies = await asyncio.gather(*(context.get(url, tls=tls) for url in urls))
    return {host: reply for (host, _), reply in zip(places, replies, strict=True)}


async def endpoint_checks(context: Context) -> list[Check]:
    """The Delivery Optimization service answers over HTTPS with a certificate that this machine trusts."""
    replies = await context.once("endpoints", lambda: _answers(context))
    return [_endpoint(host, reply) for host, reply in replies.items()]


def _endpoint(host: str, reply: Reply) -> Check:
    what = f"https to {host}"
    if not reply.error:
        return Check("endpoint", "ok", what, f"answers ({reply.status})")
    advice = "let the firewall pass TCP 443 (cacheserver firewall-list)"
    if reply.error.startswith("certificate"):
        advice = "a proxy may open TLS: exempt this host, or name its authority in trust.ca_file"
    return Check("endpoint", "fail", what, reply.error, advice)


# -- the clock ------------------------------------------------------------------------------------------------------


async def clock_checks(context: Context) -> list[Check]:
    """This machine's clock against the Date of origins and services."""
    replies = [probe.reply for probe in await first_probes(context)]
    replies += (await context.once("endpoints", lambda: _answers(context))).values()
    offsets = [offset for reply in replies if (offset := clock_offset_s(reply)) is not None]
    now_s = context.wall_s()
    shown = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    what = f"clock, now {shown}"
    advice = "set it (timedatectl set-ntp true, or chronyd): certificates and freshness depend on it"
    if not offsets:
        if now_s < _OLDEST_S:
            return [Check("clock", "fail", what, "years behind", advice)]
        return [Check("clock", "warn", what, "nobody to compare with: no answer carries a Date", "see dns and tcp")]
    offset_s = statistics.median(offsets)
    found = f"{_span(abs(offset_s))} {'behind' if offset_s > 0 else 'ahead of'} {len(offsets)} origins' clocks"
    if abs(offset_s) > _OFF_S:
        return [Check("clock", "fail", what, found, advice)]
    if abs(offset_s) > _SLIGHTLY_OFF_S:
        return [Check("clock", "warn", what, found, advice)]
    return [Check("clock", "ok", what, f"agrees with {len(offsets)} answers within {_SLIGHTLY_OFF_S:g} s")]


def clock_offset_s(reply: Reply) -> float | None:
    """Seconds by which an answer's clock is ahead of ours, its Age added (RFC 9111 §5.1); None without a Date."""
    try:
        date = parsedate_to_datetime(reply.fields["date"])
        age_s = int(reply.fields.get("age", "0"))
    except (KeyError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    offset_s = date.timestamp() + age_s - (reply.sent_s + reply.took_s)
    return 0.0 if -1.0 <= offset_s <= 1.0 else offset_s


def _span(seconds: float) -> str:
    span = timedelta(seconds=round(seconds))
    if span.days >= 365:
        years = span.days // 365
        return f"{years} year{'s' if years > 1 else ''} and {span.days % 365} days"
    if span.days:
        return f"{span.days} days"
    return str(span)
