"""An object that is purged, replaced or loses its file under a delivery: one generation's right bytes, or a cut."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from cacheserver.core.errors import GenerationChanged
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.fill.metadata import Metadata, MetadataFetcher
from tests.support.content import blob
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, representation, settled
from tests.web.answer.test_delivery import WANT, Room, room

BODY = blob(7, 6 * PIECE + 100)
REP = representation("a", len(BODY))


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream(BODY)


async def begun(place: Room, upstream: ScriptedUpstream, *, rep: object = REP) -> tuple[asyncio.Task[None], object]:
    """A delivery of which one piece has come, and whose second one does not come before ``gate`` is set."""
    gate = asyncio.Event()
    upstream.script.extend([Turn(), *[Turn(gate=gate)] * 8])
    obj = await place.rig.store.create(rep)  # type: ignore[arg-type]
    await place.rig.read(obj, WANT, 0, PIECE, whole=False)
    task = asyncio.create_task(place.deliver(obj))
    while not place.channel.body_bytes:
        await settled()
    return task, gate


@pytest.mark.parametrize("reason", ["purged", "corrupt", "space"])
async def test_a_reader_of_what_was_taken_away_gets_the_rest_from_the_source(
    tmp_path: Path, upstream: ScriptedUpstream, reason: str
) -> None:
    async with room(tmp_path, upstream) as place:
        task, gate = await begun(place, upstream)
        await place.rig.store.forget(REP.object_id, reason=reason)
        gate.set()  # type: ignore[attr-defined]
        _head, body = await place.peer.response()
        await task
        assert body == BODY
        assert upstream.requests[-1].fields.value("If-Range") == '"1"'
        await place.rig.assert_clean()
        assert await place.rig.lookup.find(WANT) is None


@pytest.mark.parametrize("authentic", [True, False])
async def test_the_rest_of_a_whole_that_must_be_judged_as_a_whole_does_not_come_past_the_store(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, authentic: bool
) -> None:
    claim = Claim("catalogue", authentic=authentic, sha256=hashlib.sha256(BODY).digest())

    async def fetch(*_args: object, **_options: object) -> Metadata:
        return Metadata(None, Trust.SIMPLE, (claim,))

    monkeypatch.setattr(MetadataFetcher, "fetch", fetch)
    async with room(tmp_path, upstream) as place:
        task, gate = await begun(place, upstream)
        await place.rig.store.forget(REP.object_id, reason="purged")
        upstream.body = BODY[: 3 * PIECE] + bytes(len(BODY) - 3 * PIECE)
        gate.set()  # type: ignore[attr-defined]
        if authentic:
            with pytest.raises(GenerationChanged, match="the rest alone"):
                await task
        else:
            assert len((await place.peer.response())[1]) == len(BODY)
            await task
        await place.rig.assert_clean()


async def test_it_is_cut_where_the_source_has_another_generation(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with room(tmp_path, upstream) as place:
        task, gate = await begun(place, upstream)
        await place.rig.store.forget(REP.object_id, reason="purged")
        upstream.etag, upstream.body = '"2"', BODY[::-1]
        gate.set()  # type: ignore[attr-defined]
        with pytest.raises(GenerationChanged):
            await task
        await place.rig.assert_clean()


async def test_a_reader_of_what_was_replaced_is_cut_without_a_question(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with room(tmp_path, upstream) as place:
        task, gate = await begun(place, upstream)
        obj = await place.rig.lookup.find(WANT)
        assert obj is not None
        await place.rig.store.retire(obj, reason="superseded")
        asked = len(upstream.requests)
        gate.set()  # type: ignore[attr-defined]
        with pytest.raises(GenerationChanged):
            await task
        assert len(upstream.requests) == asked
        await place.rig.assert_clean()


@pytest.mark.parametrize(("asked", "right"), [(("X", "y"), True), (("Range", f"bytes={PIECE}-"), False)])
async def test_answers_that_cannot_be_put_together_are_not(tmp_path: Path, asked: tuple[str, str], right: bool) -> None:
    upstream = ScriptedUpstream(BODY, etag=None)
    rep = representation("a", len(BODY), etag=None, combinable=False)
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(rep)
        obj.hold()
        await place.rig.store.forget(rep.object_id, reason="purged")
        if right:
            assert await place.received(obj, asked) == BODY, "one answer, from its beginning"
        else:
            with pytest.raises(GenerationChanged):
                await place.deliver(obj, asked)
            assert not place.channel.head_sent
        obj.release()
        await place.rig.assert_clean()


async def test_one_answer_that_breaks_is_not_continued_with_another(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(BODY, etag=None)
    upstream.script.extend([Turn(break_after=2 * PIECE)])
    rep = representation("a", len(BODY), etag=None, combinable=False)
    async with room(tmp_path, upstream) as place:
        obj = await place.rig.store.create(rep)
        obj.hold()
        await place.rig.store.forget(rep.object_id, reason="purged")
        with pytest.raises(Exception, match="ended"):
            await place.deliver(obj)
        assert len(upstream.requests) == 1
        obj.release()
        await place.rig.assert_clean()
