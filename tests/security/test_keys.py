"""Key, allow rule and upstream URL never speak of different things, whatever spelling a client draws."""

from __future__ import annotations

import random
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from yarl import URL

from cacheserver.core.cache.sources import candidates
from cacheserver.core.errors import HostNotAllowed, MalformedRequest
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.keys import canonical_target
from cacheserver.core.request.target import Target
from cacheserver.settings.services_table import service_from_allow
from cacheserver.settings.shipped import load_shipped_services
from tests.security.figures import Figure, Row, Scene
from tests.support.client import RawClient
from tests.support.content import Content
from tests.support.ground import DO_HOST, FRESH, HOST, Ground, GroundOptions, running_ground
from tests.support.record import RequestRecord

_PIECES = (
    "/", "//", "a", "B", "b", "%41", "%61", "%2F", "%2f", "%5C", "\\", "..", ".", "%2e", "%2E%2E", ".%2e", "%00", "%0a",
    "%7f", ";", ";v=1", "?", "#", "#x", "&", "=", "+", "%20", "%25", "%252e", "%zz", "%", "~", "@", ":", "*", "'", '"',
    "<", "|", "^", "[", "]", "{", "!", "$", ",", "P1=1", "p1=1", "P1", "%50%31=2", "x=%2F", "x=%zz", "cacheHostOrigin=",
    f"&cacheHostOrigin={HOST}", "&cacheHostOrigin=evil.example", "CacheHostOrigin=evil.example", "é", "\x00", "\x1f",
)  # fmt: skip
_HOSTS = (HOST, HOST.upper(), f"{HOST}.", DO_HOST, f"9.tlu.{DO_HOST}", "evil.example", f"{HOST}:80", f"{HOST}:8080")


def drawn(draw: random.Random) -> tuple[str, str]:
    """A request target and a Host value."""
    path = "/" + "".join(draw.choices(_PIECES, k=draw.randrange(0, 7)))
    host = draw.choice(_HOSTS)
    form = draw.randrange(3)
    if form == 0:
        return f"{path}{'&' if '?' in path else '?'}cacheHostOrigin={host}", "node.example"
    return (f"http://{host}{path}", "proxy.example") if form == 1 else (path, host)


def upstream_url(target: Target) -> str:
    """The URL that the node asks for."""
    return candidates(target)[0].url


def disagreement(target: Target, allowlist: AllowList) -> str | None:
    """How readers of an admitted target disagree, None where they do not."""
    url = upstream_url(target)
    split, library = urlsplit(url), URL(url, encoded=True)
    if {split.hostname, library.host} != {target.host} or (split.port or 80, library.port) != (80, 80):
        return f"{url!r} is read as {split.netloc!r} and {library.host!r}"
    if allowlist.match(str(library.host)) is not target.service:
        return f"{url!r} is of another service"
    if library.raw_path_qs.rstrip("?") != target.path_and_query.rstrip("?") or "#" in url:
        return f"{url!r} is sent as {library.raw_path_qs!r}"
    if "cacheHostOrigin=" not in target.path_and_query:
        again = parse_target(target.path_and_query, (target.host,), tls=False, allowlist=allowlist)
        if (again.key, again.host) != (target.key, target.host):
            return f"{url!r} has another key when it is asked for itself"
    # An escaped slash is data, never a separator: it stays one in the key and in the URL.
    segments = [unquote_to_bytes(segment) for segment in split.path.split("/")]
    if b".." in segments or any(b"\x00" in segment for segment in segments) or "\n" in target.key.replace("\n", "", 4):
        return f"{url!r} was admitted"
    canonical = canonical_target(target.path_and_query)
    if canonical_target(canonical.path + ("" if canonical.query is None else f"?{canonical.query}")) != canonical:
        return f"{url!r} has a canonical form that has another one"
    return None


def pure(count: int, draw: random.Random) -> tuple[int, int, list[str]]:
    """Drawn spellings through admission alone: admitted, refused, disagreements."""
    allowlist = AllowList((service_from_allow(HOST), *load_shipped_services()))
    admitted, refused, faults = 0, 0, []
    for _ in range(count):
        raw, host = drawn(draw)
        try:
            target = parse_target(raw, (host,), tls=False, allowlist=allowlist)
        except (MalformedRequest, HostNotAllowed):
            refused += 1
            continue
        admitted += 1
        fault = disagreement(target, allowlist)
        faults += [] if fault is None else [fault]
    return admitted, refused, faults


async def live(ground: Ground, count: int, draw: random.Random) -> tuple[int, list[str]]:
    """Drawn spellings through a node, each asked twice: what comes is of the URL that went up, or a refusal."""
    faults, served = [], 0

    def echo(record: RequestRecord) -> Content:
        return Content(f"{record.fields.value('Host')} {record.target}".encode(), etag=None, headers=FRESH)

    spellings = [(raw, host) for raw, host in (drawn(draw) for _ in range(count)) if _fits_a_request_line(raw)]
    for raw, host in spellings:
        path = raw.partition("://")[2].partition("/")[2] if raw.startswith("http") else raw[1:]
        ground.origin.add("/" + path.partition("?")[0], echo)
        bodies = []
        async with RawClient(*ground.node.content) as client:
            for _ in range(2):
                answer = await client.request("GET", raw, host=host)
                if answer.status == 200:
                    bodies.append(answer.body)
                elif answer.status not in (400, 403, 404, 502):
                    faults.append(f"{raw!r} as {host}: {answer.status}")
                if (answer.fields.value("Connection") or "") == "close":
                    break
        served += bool(bodies)
        if len(set(bodies)) > 1 or any(b"evil" in body.split()[0] for body in bodies):
            faults.append(f"{raw!r} as {host}: {bodies}")
    return served, faults


def _fits_a_request_line(raw: str) -> bool:
    return raw.isascii() and raw.isprintable()


async def measure(scene: Scene) -> Figure:
    """Many spellings by rule, some of them through a node with and without the lane."""
    draw = random.Random(8)
    count = scene.size(300_000, 20_000)
    admitted, refused, faults = pure(count, draw)
    served = 0
    for lane in ("true", "false"):
        options = GroundOptions(config=f"[server]\nfast_lane = {lane}\n")
        async with running_ground(scene.room(lane), options) as ground:
            right, found = await live(ground, scene.size(3000, 250), draw)
            served += right
            faults += found
    text = (
        f"{count} spellings: {admitted} admitted, {refused} refused, {served} served live; {len(faults)} disagreements"
    )
    return Figure(text, faults)


ROW = Row(
    "key confusion: %2F, %41, .., //, case, NUL, fragments, ;",
    "one canonical form or 400; key, rule and URL never disagree",
    measure,
)


@pytest.mark.timeout(180)
async def test_key_rule_and_upstream_url_agree_on_every_spelling(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
