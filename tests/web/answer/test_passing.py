"""Answers that pass: framed for the client whatever the origin's framing was."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from cacheserver.core.errors import NoMemory, OriginStatus, TruncatedBody, WrongContent
from cacheserver.core.http.http_date import format_http_date
from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.core.memory_budget import MemoryBudget, Use
from cacheserver.core.request.client import Client
from cacheserver.core.request.target import Form
from cacheserver.fill.asking import Want
from cacheserver.fill.metadata import Metadata, MetadataFetcher
from cacheserver.fill.relay.body_buffer import BodyBuffer
from cacheserver.fill.relay.pass_metadata import PassMetadata
from cacheserver.web.answer.passing import Passing
from cacheserver.web.exchange import Exchange
from cacheserver.web.options import ServerOptions
from cacheserver.web.sending.response import ResponseWriter
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, SHIPPED, CancelAt, Rig, filling, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.sockets import Peer, connected, wire_over
from tests.support.stored import NOW_S, PIECE, settled

BODY = blob(8, 5000)


class Room:
    """One pass to one client."""

    def __init__(self, rig: Rig, passing: Passing, peer: Peer) -> None:
        self.rig = rig
        self.peer = peer
        self.passing = passing
        self.channel = ResponseWriter(wire_over(peer), method="GET", http_10=False, keep_alive=True)

    async def through(self, want: Want, *, method: str = "GET") -> tuple[bytes, bytes]:
        """Head and body that the client gets."""
        self.channel._bodiless = method == "HEAD"
        exchange = Exchange(self.channel, Client(), method, "/", 0.0, cache_status="cacheserver; fwd=bypass")
        await self.passing.through(want, exchange)
        assert self.peer.transport is not None
        self.peer.transport.close()
        head, _, body = (await self.peer.rest()).partition(b"\r\n\r\n")
        return head, body


@asynccontextmanager
async def room(
    directory: Path,
    upstream: ScriptedUpstream,
    *,
    anchor: SayingAnchor | None = None,
    budget: MemoryBudget | None = None,
) -> AsyncIterator[Room]:
    async with filling(directory, upstream, anchor=anchor) as rig, connected(buffer_bytes=1 << 20) as peer:
        budget = MemoryBudget(4 << 20) if budget is None else budget
        buffer = BodyBuffer(limit_bytes=budget.limit_bytes // 4, budget=budget)
        metadata = PassMetadata(fetcher=rig.fetcher, clock=rig.clock, piece_size_bytes=PIECE, keep_s=60.0)
        passing = Passing(
            options=ServerOptions(), relay=rig.relay, metadata=metadata, via="1.1 v", buffer=buffer, first_byte_s=5.0
        )
        yield Room(rig, passing, peer)
        assert upstream.unclosed == 0
        assert buffer.budget.held_bytes == 0


async def test_a_verified_pass_cancelled_at_any_await_gives_every_answer_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = blob(9, 3 * PIECE)

    async def fetch(*_args: object, **_named: object) -> Metadata:
        await asyncio.sleep(0)
        return Metadata(manifest_of(long, PIECE), Trust.SELF_CONSISTENT)

    monkeypatch.setattr(MetadataFetcher, "fetch", fetch)
    monkeypatch.setattr(MetadataFetcher, "expects_manifest", lambda *_args: True)
    want = want_for("a", ("Range", f"bytes={PIECE + 5}-{2 * PIECE}"), service=SHIPPED)
    for number in count(1):
        async with room(tmp_path / str(number), ScriptedUpstream(long)) as place:
            work = CancelAt(place.through(want), number)
            await asyncio.gather(asyncio.create_task(_run(work)), return_exceptions=True)
        if not work.reached:
            assert number > 6
            return


async def _run(work: CancelAt) -> None:
    await work


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("ignore_range", [False, True])
async def test_a_delivery_optimization_client_never_gets_200_for_a_range(
    tmp_path: Path, upstream: ScriptedUpstream, chunked: bool, ignore_range: bool
) -> None:
    upstream.script.append(Turn(chunked=chunked, ignore_range=ignore_range))
    want = want_for("a", ("Range", "bytes=100-299"), service=SHIPPED, form=Form.CACHE_HOST)
    async with room(tmp_path, upstream) as place:
        head, body = await place.through(want)
        assert head.startswith(b"HTTP/1.1 206 ")
        assert b"\r\nContent-Range: bytes 100-299/5000" in head
        assert b"\r\nContent-Length: 200" in head
        assert body == BODY[100:300]


async def test_a_delivery_optimization_client_never_gets_chunks(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(chunked=True))
    async with room(tmp_path, upstream) as place:
        head, body = await place.through(want_for(service=SHIPPED, form=Form.CACHE_HOST))
        assert b"\r\nContent-Length: 5000" in head
        assert b"Transfer-Encoding" not in head
        assert body == BODY


async def test_other_clients_get_an_answer_without_a_length_as_it_comes(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.append(Turn(chunked=True))
    async with room(tmp_path, upstream) as place:
        head, body = await place.through(want_for(service=OWN))
        assert b"Transfer-Encoding: chunked" in head
        assert body.endswith(b"0\r\n\r\n")


async def test_a_head_request_has_no_body(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with room(tmp_path, upstream) as place:
        head, body = await place.through(want_for(), method="HEAD")
        assert b"Content-Length: 5000" in head
        assert body == b""


async def test_a_body_that_breaks_is_an_error_inside_the_body(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(break_after=1000))
    async with room(tmp_path, upstream) as place:
        with pytest.raises(TruncatedBody):
            await place.through(want_for())
        assert place.channel.head_sent
        assert place.channel.body_bytes == 1000


@pytest.mark.parametrize(("form", "relayed"), [(Form.CACHE_HOST, False), (Form.HOST, True), (Form.ABSOLUTE, True)])
@pytest.mark.parametrize("status", [403, 404])
async def test_an_origins_refusal_is_relayed_or_named_by_the_clients_form(
    tmp_path: Path, upstream: ScriptedUpstream, form: Form, relayed: bool, status: int
) -> None:
    upstream.script.append(Turn(status=status))
    async with room(tmp_path, upstream) as place:
        if relayed:
            head, body = await place.through(want_for(form=form))
            assert head.startswith(f"HTTP/1.1 {status} ".encode())
            assert body == b"refused"
        else:
            with pytest.raises(OriginStatus) as caught:
                await place.through(want_for(form=form))
            assert caught.value.status == status
            assert not place.channel.head_sent


@pytest.mark.parametrize(
    ("field", "service", "sent"),
    [
        ("bytes=0-9", SHIPPED, "bytes=0-9"),
        ("bytes=-5", SHIPPED, None),
        ("bytes=0-1,4-5", SHIPPED, None),
        ("bytes=0-1,4-5", OWN, "bytes=0-1,4-5"),
    ],
)
async def test_the_range_that_goes_up_is_rebuilt_for_shipped_services(
    tmp_path: Path, upstream: ScriptedUpstream, field: str, service: object, sent: str | None
) -> None:
    want = want_for("a", ("Range", field), service=OWN if service is OWN else SHIPPED)
    async with room(tmp_path, upstream) as place:
        await place.through(want)
        assert upstream.requests[0].fields.value("Range") == sent


@pytest.mark.parametrize("sent", [None, "Tue, 14 Nov 2023 00:00:00 GMT"])
async def test_an_answer_that_passes_has_one_date_the_origins_or_that_of_its_arrival(
    tmp_path: Path, upstream: ScriptedUpstream, sent: str | None
) -> None:
    upstream.fields = () if sent is None else (("Date", sent),)
    async with room(tmp_path, upstream) as here:
        head, _body = await here.through(want_for(service=OWN))
    dates = [line.partition(b": ")[2].decode() for line in head.split(b"\r\n") if line.lower().startswith(b"date:")]
    assert dates == [sent or format_http_date(NOW_S + 1)]


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("before", [True, False], ids=["stated before", "first stated now"])
async def test_a_catalogue_that_comes_while_content_passes_holds_for_its_end(
    tmp_path: Path, right: bool, chunked: bool, before: bool
) -> None:
    claims = [Claim("catalogue", authentic=True, sha256=hashlib.sha256(data).digest()) for data in (BODY, b"other")]
    anchor, gate = SayingAnchor(*claims[: int(before)]), asyncio.Event()
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(gate=gate, chunked=chunked))
    async with room(tmp_path, upstream, anchor=anchor) as place:
        passing = asyncio.create_task(place.through(want_for("a")))
        await settled()
        anchor.told = Statements.of(claims[:1] if right else claims[1:])
        place.rig.coordinator.ask_again()
        gate.set()
        ends = right and before
        if ends:
            _head, body = await passing
            assert body.endswith(b"0\r\n\r\n") if chunked else body == BODY
        else:
            with pytest.raises(WrongContent):
                await passing


async def test_memory_of_a_collected_body_is_held_until_it_is_sent(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(chunked=True))
    budget = MemoryBudget(80_000)
    async with room(tmp_path, upstream, budget=budget) as place:
        held, write = [], place.channel.write

        async def noted(data: bytes) -> None:
            held.append(budget.held_bytes)
            await write(data)

        place.channel.write = noted  # type: ignore[method-assign]
        _head, body = await place.through(want_for(service=SHIPPED, form=Form.CACHE_HOST))
        assert (body, len(BODY) in held, budget.held_bytes) == (BODY, True, 0)


async def test_what_there_is_no_room_to_compare_does_not_go_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = blob(9, 3 * PIECE)

    async def fetch(*_args: object, **_named: object) -> Metadata:
        return Metadata(manifest_of(long, PIECE), Trust.SELF_CONSISTENT)

    monkeypatch.setattr(MetadataFetcher, "fetch", fetch)
    budget = MemoryBudget(4 * PIECE)
    async with room(tmp_path, ScriptedUpstream(long), budget=budget) as place:
        others = [budget.lease(Use.COLLECTED, name) for name in "abc"]
        assert [other.grow(size) for other, size in zip(others, (2 * PIECE, PIECE, 1), strict=True)] == [True] * 3
        with pytest.raises(NoMemory):
            await place.through(want_for(service=SHIPPED))
        others[2].close()
        _head, body = await place.through(want_for(service=SHIPPED))
        assert body == long
        for other in others[:2]:
            other.close()
