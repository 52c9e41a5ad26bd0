"""Checks of the node itself: whether it is up and ready, and whether it answers the test URLs as clients need it."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from cacheserver.core.units import address_text, is_ip, is_loopback, parse_listen
from cacheserver.doctor.check import Check
from cacheserver.doctor.context import Context, Reply
from cacheserver.doctor.known_urls import TEST_URLS, KnownUrl
from cacheserver.outgoing.session import client_context, unverified_context

_ANSWER_S = 14.0
"""For all rounds together; a client gives a cache host 20 s."""


async def node_checks(context: Context) -> list[Check]:
    """What the admin listener says of the node."""
    listen = context.settings.admin.listen
    what = f"node, asked on its admin listener {listen or '(none)'}"
    if not listen or parse_listen(listen)[1] == 0:
        return [Check("node", "ok", what, "not asked", "set admin.listen to have its state checked")]
    ready, status = await asyncio.gather(context.admin("/readyz"), context.admin("/api/v1/status"))
    if ready.error:
        advice = "start it: cacheserver serve, or systemctl start cacheserver"
        return [Check("node", "fail", what, f"the node is down: {ready.error}", advice)]
    if ready.status in (401, 403):
        return [Check("node", "fail", what, "refuses the doctor", "run it with the node's own settings file")]
    state, facts = _object(ready), _object(status)
    if ready.status != 200:
        reasons = ", ".join(map(str, state.get("reasons", []))) or f"answers {ready.status}"
        return [Check("node", "fail", what, f"is not ready: {reasons}", "see the lines disk; look at the node's log")]
    found = f"version {facts.get('version')}, up {facts.get('uptime_s')} s, {facts.get('connections')} connections"
    refused = facts.get("content_refused") or {}
    if refused:
        found += "; content not let out: " + ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
    bans = [str(ban.get("source")) for ban in facts.get("banned_sources", [])]
    if bans:
        advice = "these sources sent bad pieces; look at the log, and at proxies on the way"
        return [Check("node", "warn", what, f"{found}; banned sources: {', '.join(bans[:4])}", advice)]
    advice = "docs/integrity.md has the reasons; the log's content_refused names the objects" if refused else ""
    return [Check("node", "ok", what, found, advice)]


def _object(reply: Reply) -> dict[str, Any]:
    try:
        value = json.loads(reply.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def known_url_checks(context: Context) -> list[Check]:
    """Each test URL through each address of the node, over http, and then over https.

    In that order, since origins are asked by the client's scheme and not all of them speak https: the second round
    shows that what the node holds is served over TLS too.
    """
    bases = _bases(context)
    rounds = [[base for base in bases if base[0] == scheme] for scheme in ("http", "https")]
    timeout_s = _ANSWER_S / max(1, sum(map(bool, rounds)))
    checks: list[Check] = []
    for places in rounds:
        asked = [_test_url(context, base, url, timeout_s) for base in places for url in TEST_URLS]
        checks += await asyncio.gather(*asked)
    return checks


def _bases(context: Context) -> list[tuple[str, tuple[str, int]]]:
    if context.options.nodes:
        return [_named_node(text) for text in context.options.nodes]
    found = [("http", place) for place in context.content_addresses(tls=False)]
    found += [("https", place) for place in context.content_addresses(tls=True)]
    return [(scheme, place) for scheme, place in found if place[1]]


def _named_node(text: str) -> tuple[str, tuple[str, int]]:
    """A node by its name is asked as clients do: on 80, and on 443 where TLS is expected of it."""
    scheme, _, rest = text.rpartition("://")
    try:
        place = parse_listen(rest)
    except ValueError:
        place = (rest.removeprefix("[").removesuffix("]"), 443 if scheme == "https" else 80)
    return scheme or "http", place


async def _test_url(context: Context, base: tuple[str, tuple[str, int]], url: KnownUrl, timeout_s: float) -> Check:
    scheme, place = base
    what = f"test URL {url.name} over {scheme} from {address_text(*place)}"
    headers = {} if url.whole else {"Range": "bytes=0-9"}
    address = f"{scheme}://{address_text(*place)}{url.cache_host_target}"
    reply = await context.get(address, headers=headers, tls=_client_tls(context), timeout_s=timeout_s)
    if reply.error:
        return Check("test-url", "fail", what, reply.error, "see the lines port, node and certificate")
    wrong = _what_is_wrong(reply, url)
    if wrong:
        return Check("test-url", "fail", what, wrong, "see the lines range and portal; look at the node's log")
    shown = f"{url.content_type}, {url.length_bytes} bytes" if url.whole else f"bytes 0-9/{url.length_bytes}"
    return Check("test-url", "ok", what, f"{reply.status}, {shown}, first byte after {reply.took_s * 1000:.0f} ms")


def _client_tls(context: Context) -> ssl.SSLContext:
    """As clients check it for nodes by name; of this node's listeners the line handshake tells about trust."""
    return client_context(context.options.ca_file) if context.options.nodes else unverified_context()


def _what_is_wrong(reply: Reply, url: KnownUrl) -> str:
    """Empty, or how the answer differs from what clients need."""
    status, length = (200, url.length_bytes) if url.whole else (206, 10)
    if reply.status != status:
        text = reply.body[:200].decode("utf-8", "replace").strip() if reply.status >= 400 else ""
        return f"status {reply.status} and not {status}" + (f": {' '.join(text.split())}" if text else "")
    if url.content_type and reply.fields.get("content-type", "").partition(";")[0].strip() != url.content_type:
        return f"Content-Type {reply.fields.get('content-type', 'none')} and not {url.content_type}"
    if reply.length_bytes != length:
        return f"wrong length: {reply.length_bytes} bytes and not {length}"
    if reply.fields.get("content-length") != str(length):
        return f"Content-Length {reply.fields.get('content-length', 'none')} and not {length}"
    expected = f"bytes 0-9/{url.length_bytes}"
    if not url.whole and reply.fields.get("content-range") != expected:
        return f"wrong length: Content-Range {reply.fields.get('content-range', 'none')} and not {expected}"
    return ""


async def address_checks(context: Context) -> list[Check]:
    """Whether clients elsewhere can reach the content listeners at all."""
    server = context.settings.server
    places = [parse_listen(text) for text in (*server.listen, *server.listen_tls)]
    shown = ", ".join(address_text(*place) for place in places)
    if all(is_loopback(host) for host, _ in places):
        advice = "set server.listen to 0.0.0.0:80, unless another program passes clients on"
        return [Check("addresses", "warn", "content listeners", f"{shown}: this machine only", advice)]
    hint = "" if all(is_ip(host) for host, _ in places) else "the host name must lead to this machine"
    if 80 not in {port for _, port in places}:
        hint = "clients ask on port 80 (443 for https): listen there, or redirect it here"
    return [Check("addresses", "ok", "content listeners", shown, hint)]
