"""The first answer for an object: what is asked for, what becomes of the answer, and that it is always given back."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.cache.kept_answer import Answered
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import BadAnswer, ConnectFailed, DiskError, NoSource, TruncatedBody, WrongContent
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.core.memory_budget import MemoryBudget
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.outcome import Relayed, Stored
from cacheserver.fill.relay.body_buffer import BodyBuffer
from cacheserver.store.object.file import ObjectFile
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, SHIPPED, Rig, filling, want_for
from tests.support.scripted import ScriptedAnswer, ScriptedUpstream, Turn
from tests.support.stored import PIECE, bytes_on_disk

BODY = blob(3, 5 * PIECE + 100)
WANT = want_for(service=SHIPPED)
LAST = len(BODY) - 1


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


async def relayed(rig: Rig, reason: str) -> Relayed:
    outcome, first = await rig.coordinator.open(WANT, (0, None))
    assert first
    assert isinstance(outcome, Relayed)
    assert outcome.reason == reason
    assert not rig.upstream.answers[-1].closed
    return outcome


@pytest.mark.parametrize(
    ("demand", "asked"),
    [
        ((0, None), f"0-{2 * PIECE - 1}"),
        ((0, 1), f"0-{PIECE - 1}"),
        ((PIECE + 5, PIECE + 6), f"{PIECE}-{2 * PIECE - 1}"),
        ((3 * PIECE - 1, 3 * PIECE + 1), f"{2 * PIECE}-{4 * PIECE - 1}"),
        ((PIECE, 5 * PIECE), f"{PIECE}-{3 * PIECE - 1}"),
        ((4 * PIECE, None), f"{4 * PIECE}-{6 * PIECE - 1}"),
        (None, "0-0"),
    ],
)
async def test_whole_pieces_around_the_demand_are_asked_for_first(
    tmp_path: Path, upstream: ScriptedUpstream, demand: tuple[int, int | None] | None, asked: str
) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT, demand)
        assert upstream.ranges == [asked]
        assert (obj.representation.length_bytes, obj.representation.key) == (len(BODY), WANT.target.key)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()


async def test_what_was_opened_is_read_from_the_same_answer(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT, (0, 10))
        assert await rig.read(obj, WANT, 0, 10, whole=False) == BODY[:10]
        await rig.assert_clean()
        assert len(upstream.requests) == 1


async def test_a_source_without_ranges_fills_from_its_whole_answer(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(ignore_range=True))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT, (0, None))
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        assert (len(upstream.requests), rig.meter.received_bytes) == (1, len(BODY))


@pytest.mark.parametrize("demand", [(0, None), (3 * PIECE, None), None])
async def test_an_answer_without_a_validator_is_stored_only_as_a_whole(
    tmp_path: Path, demand: tuple[int, int | None] | None
) -> None:
    upstream = ScriptedUpstream(BODY, etag=None, fields=(("Cache-Control", "max-age=60"),))
    want = want_for(service=OWN)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(want, demand)
        assert await rig.read(obj, want) == BODY
        assert upstream.ranges[1:] == [None]
        await rig.assert_clean()


async def test_a_range_ignored_for_a_suffix_does_not_leave_an_object_that_nobody_can_fill(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY, etag=None, fields=(("Cache-Control", "max-age=60"),))
    upstream.script.append(Turn(ignore_range=True))
    want = want_for(service=OWN)
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(want, None)
        assert await rig.read(obj, want) == BODY
        await rig.assert_clean()


async def test_an_empty_object_is_stored_although_no_range_of_it_can_be_had(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(b"")
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert obj.representation.length_bytes == 0
        assert upstream.ranges == [f"0-{2 * PIECE - 1}", None]
        await rig.assert_clean()


async def test_a_range_behind_the_end_is_the_origins_416(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        outcome, _first = await rig.coordinator.open(WANT, (100 * PIECE, None))
        assert isinstance(outcome, Answered)
        assert (outcome.status, outcome.fields.value("Content-Range")) == (416, f"bytes */{len(BODY)}")
        await rig.assert_clean()


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 500])
async def test_a_refusal_is_kept_in_memory_and_its_answer_given_back(
    tmp_path: Path, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.script.extend([Turn(status=status)] * 2)
    async with filling(tmp_path, upstream) as rig:
        outcome, _first = await rig.coordinator.open(WANT, (0, None))
        assert isinstance(outcome, Answered)
        assert (outcome.status, outcome.body) == (status, b"refused")
        await rig.assert_clean()
        assert bytes_on_disk(tmp_path) == 0


@pytest.mark.parametrize("turn", [Turn(status=503), Turn(refuse=ConnectFailed("no"))])
async def test_a_passing_fault_is_tried_again(tmp_path: Path, upstream: ScriptedUpstream, turn: Turn) -> None:
    upstream.script.extend([turn, turn])
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()


async def test_after_the_last_try_the_fault_is_raised(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.extend([Turn(refuse=ConnectFailed("no"))] * 3)
    async with filling(tmp_path, upstream) as rig:
        with pytest.raises(ConnectFailed):
            await rig.coordinator.open(WANT, (0, None))
        assert len(upstream.requests) == 3
        await rig.assert_clean()


async def test_after_the_last_try_the_origins_own_fault_is_handed_on(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(status=502)] * 3)
    async with filling(tmp_path, upstream) as rig:
        outcome, _first = await rig.coordinator.open(WANT, (0, None))
        assert isinstance(outcome, Answered)
        assert (outcome.status, len(upstream.requests)) == (502, 3)
        await rig.assert_clean()


async def test_after_an_answer_that_contradicts_the_request_the_whole_is_asked_for(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.append(Turn(fields=(("Content-Range", "bytes 0-1/2"),)))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert upstream.ranges == [f"0-{2 * PIECE - 1}", None]
        await rig.assert_clean()


async def test_an_answer_that_contradicts_itself_at_every_try_is_refused(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script.extend([Turn(fields=(("Content-Length", "5"),))] * 3)
    async with filling(tmp_path, upstream) as rig:
        with pytest.raises(BadAnswer):
            await rig.coordinator.open(WANT, (0, None))
        await rig.assert_clean()
        assert bytes_on_disk(tmp_path) == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((("Cache-Control", "no-store"),), "no-store"),
        ((("Vary", "*"),), "vary"),
        ((("Cache-Control", "private"),), "private"),
    ],
)
async def test_what_may_not_be_stored_is_relayed_and_remembered(
    tmp_path: Path, fields: tuple[tuple[str, str], ...], reason: str
) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY, fields=fields)) as rig:
        assert not rig.coordinator.passes(WANT)
        (await relayed(rig, reason)).answer.close()
        assert rig.coordinator.passes(WANT)
        rig.clock.now_s += 61
        assert not rig.coordinator.passes(WANT), "the memory is short"
        await rig.assert_clean()


@pytest.mark.parametrize("fault", ["offline", "full", "disk"])
async def test_what_cannot_be_stored_now_is_relayed_and_not_remembered(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def fails(_path: str, _rep: object) -> ObjectFile:
        raise DiskError("create", errno=5)

    async with filling(tmp_path, upstream, capacity_bytes=100 if fault == "full" else 1 << 26) as rig:
        if fault == "disk":
            monkeypatch.setattr(ObjectFile, "create", fails)
        if fault == "offline":
            rig.store.volumes[0].failed(DiskError("full", errno=28))
        reason = {"offline": "volume_offline", "full": "store_full", "disk": "disk_error"}[fault]
        (await relayed(rig, reason)).answer.close()
        assert not rig.coordinator.passes(WANT)
        await rig.assert_clean()


async def test_an_answer_without_a_length_is_collected_and_stored(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script.append(Turn(ignore_range=True, chunked=True))
    async with filling(tmp_path, upstream) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        assert len(upstream.requests) == 1
        upstream.answers[0].close()  # read to its end: the connection has gone back by itself
        await rig.assert_clean()


async def test_an_answer_that_is_too_long_to_collect_is_relayed_with_what_was_read(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script.append(Turn(ignore_range=True, chunked=True))
    async with filling(tmp_path, upstream) as rig:
        monkeypatch.setattr(
            rig.coordinator._opener._unmeasured,
            "_buffer",
            BodyBuffer(limit_bytes=2 * PIECE, budget=MemoryBudget(8 * PIECE)),
        )
        outcome = await relayed(rig, "no_length")
        rest = b"".join([data async for data in _rest(outcome)])
        assert outcome.prefix + rest == BODY
        outcome.answer.close()


async def _rest(outcome: Relayed) -> AsyncIterator[bytes]:
    while data := await outcome.answer.read():
        yield data


async def test_an_answer_that_breaks_while_it_is_collected_is_given_back(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    broken = Turn(ignore_range=True, chunked=True, break_after=PIECE, failure=TruncatedBody("cut"))
    upstream.script.extend([broken] * 3)
    async with filling(tmp_path, upstream) as rig:
        with pytest.raises(TruncatedBody):
            await rig.coordinator.open(WANT, (0, None))
        await rig.assert_clean()
        assert bytes_on_disk(tmp_path) == 0


async def test_a_stored_outcome_names_the_object(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with filling(tmp_path, upstream) as rig:
        outcome, first = await rig.coordinator.open(WANT, (0, None))
        assert first
        assert isinstance(outcome, Stored)
        assert rig.store.peek(WANT.target.object_id) is outcome.obj
        await rig.assert_clean()


@pytest.mark.parametrize("right", [True, False])
async def test_an_empty_answer_is_stored_only_where_nothing_says_otherwise(tmp_path: Path, right: bool) -> None:
    claim = Claim("name", authentic=True, sha1=hashlib.sha1(b"" if right else b"more").digest())
    async with filling(tmp_path, ScriptedUpstream(b""), anchor=SayingAnchor(claim)) as rig:
        if right:
            assert (await rig.opened(WANT)).pieces.complete
        else:
            with pytest.raises(WrongContent):
                await rig.opened(WANT)
            assert await rig.lookup.find(WANT) is None
        await rig.assert_clean()


@pytest.mark.parametrize("anchor", ["name", "catalogue", "digest_field"])
async def test_only_digest_fields_speak_of_coded_bytes(tmp_path: Path, anchor: str) -> None:
    claim = Claim(anchor, authentic=True, length_bytes=7, sha1=bytes(20))
    async with filling(tmp_path, ScriptedUpstream(b"x"), anchor=SayingAnchor(claim)) as rig:
        coded = Fields((("Content-Encoding", "gzip"),))
        metadata = await rig.fetcher.fetch(WANT, coded, secure=True, length_bytes=7)
        assert metadata.claims == ((claim,) if anchor == "digest_field" else ())
        assert not metadata.blocked


async def test_an_empty_answer_that_a_manifest_contradicts_is_refused(tmp_path: Path) -> None:
    async def fetch(*_args: Any, **_kwargs: Any) -> Metadata:
        return Metadata(None, Trust.SIMPLE, blocked="the content is empty, and its manifest is of another")

    async with filling(tmp_path, ScriptedUpstream(b"")) as rig:
        rig.fetcher.fetch = fetch  # type: ignore[method-assign]
        with pytest.raises(NoSource):
            await rig.coordinator.open(WANT, (0, None))
        assert await rig.lookup.find(WANT) is None
        await rig.assert_clean()


@pytest.mark.parametrize("secure", [True, False])
async def test_anchors_are_told_whether_tls_carried_the_answer(
    tmp_path: Path, upstream: ScriptedUpstream, secure: bool
) -> None:
    heard, send = list[bool](), upstream.open

    class Hearing(SayingAnchor):
        async def claims(self, *args: Any, secure: bool = False, **more: Any) -> Statements:
            heard.append(secure)
            return await super().claims(*args, secure=secure, **more)

    async def carried(request: UpstreamRequest) -> ScriptedAnswer:
        answer = await send(request)
        answer.secure = secure
        return answer

    upstream.open = carried  # type: ignore[method-assign]
    async with filling(tmp_path, upstream, anchor=Hearing()) as rig:
        obj = await rig.opened(WANT)
        assert await rig.read(obj, WANT) == BODY
        await rig.assert_clean()
        rig.judge.begin_era()
        assert await rig.lookup.find(WANT) is obj
    assert heard == [secure] * 2, "when it was fetched, and when it was judged again"


async def test_an_answer_that_ends_with_its_connection_is_never_stored(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = upstream._answer

    def unbounded(request: UpstreamRequest, turn: Turn) -> ScriptedAnswer:
        answer = made(request, turn)
        answer.fields = answer.fields.without("Content-Length")
        return answer

    monkeypatch.setattr(upstream, "_answer", unbounded)
    upstream.script.append(Turn(ignore_range=True))
    async with filling(tmp_path, upstream) as rig:
        (await relayed(rig, "close_delimited")).answer.close()
        assert bytes_on_disk(tmp_path) == 0
