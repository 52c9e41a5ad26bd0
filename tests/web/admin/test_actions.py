"""What an operator can do over the admin listener, and who cannot."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.source_health import SourceHealth
from cacheserver.core.errors import RequestError
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.vary import variant_key
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.keys import object_id
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Target
from cacheserver.maintenance.options import ScrubOptions
from cacheserver.maintenance.pace import Load
from cacheserver.maintenance.scrubber import Scrubber
from cacheserver.store.store import Store
from cacheserver.store.stored_object import VaryMarker
from cacheserver.web.admin.actions import VERIFY_PIECES, AdminActions
from cacheserver.web.admin.app import admin_app
from cacheserver.web.admin.json_bodies import MAX_BODY_BYTES
from cacheserver.web.options import AdminOptions
from tests.maintenance.scene import flip
from tests.support.flow import eventually
from tests.support.stored import NOW_S, PIECE, HandClock, found, put, representation, running_store

TOKEN = "0123456789abcdef"
ALLOWED = AllowList((Service(name="own", hosts=("a.test",), own=True),))
URL = "http://a.test/file.bin?token=s3cret"
ACTIONS = ("/api/v1/scrub", "/api/v1/bans/lift", "/api/v1/purge", "/api/v1/verify")


def admit(url: str) -> Target | None:
    try:
        return parse_target(url, (url.split("/")[2],), tls=False, allowlist=ALLOWED)
    except (RequestError, IndexError):
        return None


def representation_of(url: str, pieces: int = 3) -> Representation:
    target = admit(url)
    assert target is not None
    known = representation("x", pieces * PIECE - 10)
    return replace(known, key=target.key, object_id=target.object_id)


@dataclass(slots=True)
class Api:
    """A running admin listener over a real store."""

    store: Store
    scrubber: Scrubber
    sources: SourceHealth
    session: ClientSession
    base: str

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Send a body (JSON unless it is bytes or an iterator); status and answer."""
        data = body if isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | (headers or {})
        async with self.session.post(self.base + path, data=data, headers=sent) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        async with self.session.get(self.base + path) as response:
            return response.status, await response.json()

    async def scrubbed(self) -> dict[str, Any]:
        """Wait for the end of the pass that was asked for."""

        async def done() -> bool:
            return not (await self.get("/api/v1/scrub"))[1]["now"]["running"]

        await eventually(done)
        now: dict[str, Any] = (await self.get("/api/v1/scrub"))[1]["now"]
        return now


@asynccontextmanager
async def api(directory: Path, options: AdminOptions | None = None) -> AsyncIterator[Api]:
    clock, sources = HandClock(), SourceHealth()
    async with running_store(directory, clock=clock) as store:
        scrubber = Scrubber(
            store=store,
            options=ScrubOptions(enabled=False),
            clock=clock,
            load=Load(fills=lambda: 0, sent_bytes=lambda: 0, clock=clock),
            count=lambda _size: None,
            piece_size_bytes=PIECE,
        )
        actions = AdminActions(store=store, scrubber=scrubber, sources=sources, admit=admit, clock=clock)
        app = admin_app(options or AdminOptions(), actions)
        task = asyncio.create_task(scrubber.run())
        try:
            async with TestServer(app) as server, ClientSession() as session:
                yield Api(store, scrubber, sources, session, f"http://127.0.0.1:{server.port}")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


# -- acts -----------------------------------------------------------------------------------------------------------


async def test_a_scrub_is_begun_and_its_numbers_can_be_followed(tmp_path: Path) -> None:
    async with api(tmp_path) as node:
        rep = representation_of(URL)
        await put(node.store, rep)
        await flip(node.store, rep, 1)
        status, begun = await node.post("/api/v1/scrub", {})
        assert (status, begun["started"], begun["number"]) == (202, True, 1)
        now = await node.scrubbed()
        assert (now["pieces_checked"], now["pieces_total"], now["bad"]) == (3, 3, 1)
        assert (await node.get("/api/v1/scrub"))[1]["last_complete"] > NOW_S


async def test_a_ban_is_lifted_once(tmp_path: Path) -> None:
    async with api(tmp_path) as node:
        for number in range(3):
            node.sources.strike("http://bad.test", f"{number}", 1000.0)
        assert node.sources.order(["http://bad.test"], 1000.0) == []
        assert await node.post("/api/v1/bans/lift", {"source": "http://bad.test"}) == (
            200,
            {"lifted": "http://bad.test"},
        )
        assert node.sources.order(["http://bad.test"], 1000.0) == ["http://bad.test"]
        assert (await node.post("/api/v1/bans/lift", {"source": "http://bad.test"}))[0] == 404


async def test_strikes_that_are_no_ban_stay(tmp_path: Path) -> None:
    async with api(tmp_path) as node:
        node.sources.strike("http://bad.test", "a", 1000.0)
        node.sources.strike("http://bad.test", "b", 1000.0)
        assert (await node.post("/api/v1/bans/lift", {"source": "http://bad.test"}))[0] == 404
        assert node.sources.strike("http://bad.test", "c", 1000.0)


@pytest.mark.parametrize("by", ["url", "object_id"])
async def test_a_purged_object_is_gone_and_others_stay(tmp_path: Path, by: str) -> None:
    async with api(tmp_path) as node:
        rep, other = representation_of(URL), representation_of("http://a.test/other")
        for each in (rep, other):
            await put(node.store, each)
        body = {by: URL if by == "url" else rep.object_id}
        answer = {"object_id": rep.object_id, "purged": 1, "away": [], "left_on": []}
        assert await node.post("/api/v1/purge", body) == (200, answer)
        assert await node.store.find(rep.object_id) is None
        assert (await found(node.store, other)).pieces.complete
        gone = {"error": "nothing is stored there", "away": [], "left_on": []}
        assert await node.post("/api/v1/purge", body) == (404, gone)


async def test_purging_a_url_takes_all_its_variants_along_and_no_others(tmp_path: Path) -> None:
    async with api(tmp_path) as node:
        kept = []
        for url in (URL, "http://a.test/other"):
            primary = representation_of(url)
            for language in ("de", "en"):
                key = variant_key(primary.key, ("accept-language",), Fields((("Accept-Language", language),)))
                variant = replace(primary, key=key, object_id=object_id(key), vary=("accept-language",))
                await put(node.store, variant)
                kept.append(variant)
            await node.store.mark_vary(VaryMarker(primary.object_id, ("accept-language",)), service="own")
        status, answer = await node.post("/api/v1/purge", {"url": URL})
        assert (status, answer["purged"]) == (200, 2)
        assert [await node.store.find(rep.object_id) is None for rep in kept] == [True, True, False, False]
        assert await node.store.find(representation_of(URL).object_id) is None


async def test_facts_of_one_object(tmp_path: Path) -> None:
    async with api(tmp_path) as node:
        rep = replace(representation_of(URL), trust=Trust.ANCHORED, hash_of_hashes="ab" * 32)
        obj = await put(node.store, rep)
        node.store.drop_piece(obj, 1)
        status, facts = await node.get(f"/api/v1/objects?url={quote(URL, safe='')}")
        assert status == 200
        expected = {
            "object_id": rep.object_id,
            "path": "/file.bin",
            "length_bytes": 3 * PIECE - 10,
            "pieces": 3,
            "pieces_stored": 2,
            "pieces_checked": 2,
            "complete": False,
            "trust": "anchored",
            "hash_of_hashes": "ab" * 32,
            "etag": '"1"',
            "fresh": False,
            "lifetime_s": 0.0,
        }
        assert {name: facts[name] for name in expected} == expected
        assert "s3cret" not in json.dumps(facts)
        assert (await node.get(f"/api/v1/objects?url={quote('http://a.test/none', safe='')}"))[0] == 404


async def test_verifying_an_object_reads_all_of_it_in_steps(tmp_path: Path) -> None:
    async with api(tmp_path) as node:
        rep = representation_of(URL, pieces=VERIFY_PIECES + 6)
        obj = await put(node.store, rep)
        for piece in (3, VERIFY_PIECES + 5):
            await flip(node.store, rep, piece)
        _, first = await node.post("/api/v1/verify", {"url": URL})
        assert (first["checked"], first["next_piece"]) == (VERIFY_PIECES, VERIFY_PIECES)
        assert first["bad"] == [{"piece": 3, "found": "bad"}]
        _, second = await node.post("/api/v1/verify", {"url": URL, "first_piece": first["next_piece"]})
        assert (second["checked"], second["next_piece"]) == (6, None)
        assert second["bad"] == [{"piece": VERIFY_PIECES + 5, "found": "bad"}]
        assert obj.pieces.pieces_in_state(0, len(obj.pieces), ABSENT) == [3, VERIFY_PIECES + 5]


async def test_every_act_leaves_one_event_without_a_query_string(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cacheserver.web.admin.actions")
    async with api(tmp_path) as node:
        await put(node.store, representation_of(URL))
        await node.post("/api/v1/scrub", {})
        await node.post("/api/v1/bans/lift", {"source": "http://bad.test"})
        await node.get(f"/api/v1/objects?url={quote(URL, safe='')}")
        await node.post("/api/v1/verify", {"url": URL})
        await node.post("/api/v1/purge", {"url": URL})
        await node.scrubbed()
    records = [record for record in caplog.records if record.name == "cacheserver.web.admin.actions"]
    assert [record.message for record in records] == [
        "admin_scrub",
        "admin_ban_lift",
        "admin_object",
        "admin_verify",
        "admin_purge",
    ]
    for record in records:
        assert vars(record)["facts"]["client"] == "127.0.0.1"
        assert "s3cret" not in str(vars(record))


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
async def test_pages_of_other_sites_change_nothing(
    tmp_path: Path, path: str, headers: dict[str, str], status: int
) -> None:
    async with api(tmp_path) as node:
        assert (await node.post(path, {}, headers))[0] == status
        assert node.scrubber.number == 0


async def test_the_nodes_own_pages_may_act(tmp_path: Path) -> None:
    async with api(tmp_path) as node:
        headers = {"Origin": node.base, "Sec-Fetch-Site": "same-origin"}
        assert (await node.post("/api/v1/scrub", {}, headers))[0] == 202
        await node.scrubbed()


@pytest.mark.parametrize("path", ACTIONS)
async def test_nothing_is_done_without_the_token(tmp_path: Path, path: str) -> None:
    async with api(tmp_path, AdminOptions(token=TOKEN)) as node:
        assert (await node.post(path, {}))[0] == 401
        assert (await node.post(path, {}, {"Authorization": "Bearer wrong-wrong-wrong"}))[0] == 401
        assert node.scrubber.number == 0
        status, _ = await node.post("/api/v1/scrub", {}, {"Authorization": f"Bearer {TOKEN}"})
        assert status == 202


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(tmp_path: Path, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024 + 1):
            yield b" " * 1024

    async with api(tmp_path) as node:
        body = chunks() if chunked else b" " * (MAX_BODY_BYTES + 1)
        assert (await node.post("/api/v1/scrub", body))[0] == 413


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/scrub", b""),
        ("/api/v1/scrub", b"[]"),
        ("/api/v1/scrub", b"{"),
        ("/api/v1/scrub", b"\xff"),
        ("/api/v1/scrub", b"[" * 10_000),
        ("/api/v1/scrub", {"now": True}),
        ("/api/v1/bans/lift", {}),
        ("/api/v1/bans/lift", {"source": 1}),
        ("/api/v1/bans/lift", b'{"source":"a","source":"b"}'),
        ("/api/v1/purge", {}),
        ("/api/v1/purge", {"url": URL, "object_id": "0" * 32}),
        ("/api/v1/purge", {"object_id": "../../etc/passwd"}),
        ("/api/v1/purge", {"object_id": "A" * 32}),
        ("/api/v1/purge", {"url": "file:///etc/passwd"}),
        ("/api/v1/purge", {"url": "http://other.test/x"}),
        ("/api/v1/purge", {"url": "http://u@a.test/x"}),
        ("/api/v1/purge", {"url": "/x"}),
        ("/api/v1/purge", {"url": "http://[::1/x"}),
        ("/api/v1/verify", {"url": URL, "first_piece": -1}),
        ("/api/v1/verify", {"url": URL, "first_piece": True}),
        ("/api/v1/verify", {"url": URL, "first_piece": 1.5}),
    ],
)
async def test_a_malformed_body_is_one_line_of_400(tmp_path: Path, path: str, body: Any) -> None:
    async with api(tmp_path) as node:
        status, answer = await node.post(path, body)
        assert status == 400
        assert list(answer) == ["error"]


@pytest.mark.parametrize("query", ["", "?url=", "?url=a&url=b", "?url=http%3A%2F%2Fother.test%2F"])
async def test_a_look_at_no_or_a_strange_url_is_400(tmp_path: Path, query: str) -> None:
    async with api(tmp_path) as node:
        assert (await node.get(f"/api/v1/objects{query}"))[0] == 400
