"""Anchors that say something else while the first reader of a content is in the middle of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cacheserver.core.errors import GenerationChanged, NoSource, WrongContent
from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.object.checks import PieceChecks
from cacheserver.fill.object.reader import Reader
from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, Rig, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, settled

BODY = blob(91, 6 * PIECE + 100)
WANT = want_for()
MANIFEST = manifest_of(BODY, PIECE)
RIGHT = Claim("catalogue", authentic=True, sha1=hashlib.sha1(BODY).digest())
WRONG_WHOLE = Claim("catalogue", authentic=True, sha1=bytes(20))
WRONG_LENGTH = Claim("catalogue", authentic=True, length_bytes=1, sha1=RIGHT.sha1)
WRONG_PIECES = Claim("catalogue", authentic=True, hash_of_hashes=bytes(32))
RIGHT_PIECES = Claim("catalogue", authentic=True, hash_of_hashes=MANIFEST.hash_of_hashes)
SERVICE = Claim("content_policy", authentic=True, hash_of_hashes=MANIFEST.hash_of_hashes)


class Body:
    """A reader in the middle of a content, of which the rest waits for ``gate``."""

    def __init__(self, rig: Rig, anchor: SayingAnchor, obj: StoredObject, reader: Reader, gate: asyncio.Event) -> None:
        self.rig, self.anchor, self.obj, self.reader, self.gate = rig, anchor, obj, reader, gate
        self.at = 0

    def say(self, *claims: Claim, unknown: tuple[str, ...] = ()) -> None:
        """The settings were read again, and the anchor says this from now on."""
        self.anchor.told = Statements.of(claims, unknown)
        self.rig.judge.begin_era()
        self.rig.coordinator.ask_again()

    async def rest(self) -> int:
        """How far the reader gets, with what comes from now on; it leaves."""
        self.gate.set()
        try:
            while self.at < len(BODY):
                self.at = await self.reader.readable(self.at)
        finally:
            self.reader.close(reached=self.at)
        return self.at


@asynccontextmanager
async def in_mid_body(directory: Path, *claims: Claim, metadata: Metadata | None = None) -> AsyncIterator[Body]:
    anchor, gate = SayingAnchor(*claims), asyncio.Event()
    upstream = ScriptedUpstream(BODY)
    upstream.script.extend([Turn(), Turn(gate=gate)])
    async with filling(directory, upstream, anchor=anchor, options=quick(parallel=1)) as rig:
        if metadata is not None:
            rig.fetcher.fetch = _giving(metadata)  # type: ignore[method-assign]
        obj = await rig.opened(WANT)
        obj.hold()
        reader = rig.coordinator.reader(obj, WANT, 0, len(BODY), whole=True)
        body = Body(rig, anchor, obj, reader, gate)
        while body.at < 2 * PIECE:
            body.at = await reader.readable(body.at)
        await settled()
        yield body
        obj.release()
        await rig.assert_clean()


def _giving(metadata: Metadata) -> Callable[..., Coroutine[Any, Any, Metadata]]:
    async def fetch(*_args: object, **_kwargs: object) -> Metadata:
        return metadata

    return fetch


@pytest.mark.parametrize("claim", [WRONG_WHOLE, WRONG_PIECES, WRONG_LENGTH], ids=["whole", "pieces", "length"])
@pytest.mark.parametrize("before", [(), (RIGHT,)], ids=["nothing", "right"])
async def test_a_reader_never_gets_all_of_what_is_contradicted_now(
    tmp_path: Path, claim: Claim, before: tuple[Claim, ...]
) -> None:
    async with in_mid_body(tmp_path, *before) as body:
        body.say(claim)
        with pytest.raises((WrongContent, NoSource, GenerationChanged)):
            await body.rest()
        await body.rig.idle()
        assert not body.obj.pieces.complete


async def test_what_is_confirmed_now_is_labelled_and_kept(tmp_path: Path) -> None:
    async with in_mid_body(tmp_path) as body:
        body.say(RIGHT)
        assert await body.rest() == len(BODY)
        await body.rig.idle()
        assert body.obj.representation.trust is Trust.ANCHORED


async def test_a_question_under_way_is_asked_once_more(tmp_path: Path) -> None:
    async with in_mid_body(tmp_path) as body:
        body.anchor.gate = asyncio.Event()
        body.say(RIGHT)
        await settled()
        body.anchor.told = Statements.of((RIGHT,))
        body.say(WRONG_WHOLE)
        body.anchor.gate.set()
        with pytest.raises(WrongContent):
            await body.rest()


async def test_the_last_piece_waits_for_what_may_be_said_now(tmp_path: Path) -> None:
    async with in_mid_body(tmp_path) as body:
        body.anchor.gate = asyncio.Event()
        body.say()
        reading = asyncio.create_task(body.rest())
        while body.obj.pieces.stored_bytes < len(BODY) - 100:
            await settled()
        await settled()
        assert not reading.done()
        body.anchor.gate.set()
        assert await reading == len(BODY)


@pytest.mark.parametrize(
    ("told", "unknown", "trust"),
    [
        ((), (), Trust.SELF_CONSISTENT),
        ((), ("content_policy",), Trust.ANCHORED),
        ((RIGHT_PIECES,), (), Trust.ANCHORED),
    ],
    ids=["withdrawn", "mute", "another"],
)
async def test_a_manifest_stays_and_its_trust_follows_what_is_said_and_not_what_is_mute(
    tmp_path: Path, told: tuple[Claim, ...], unknown: tuple[str, ...], trust: Trust
) -> None:
    async with in_mid_body(tmp_path, metadata=Metadata(MANIFEST, Trust.ANCHORED, (SERVICE,))) as body:
        body.say(*told, unknown=unknown)
        assert await body.rest() == len(BODY)
        await body.rig.idle()
        rep = body.obj.representation
        assert (rep.trust, rep.hash_of_hashes) == (trust, MANIFEST.hash_of_hashes.hex())
        assert rep.unsettled is bool(unknown)


async def test_a_manifest_that_is_contradicted_now_gives_way_to_what_is_signed(tmp_path: Path) -> None:
    async with in_mid_body(tmp_path, metadata=Metadata(MANIFEST, Trust.SELF_CONSISTENT)) as body:
        body.say(WRONG_PIECES)
        with pytest.raises(WrongContent):
            await body.rest()
        assert body.rig.meter.counts["manifest", "contradicts"] == 1


async def test_what_changes_while_stored_pieces_are_compared_is_asked_for_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_mid_body(tmp_path) as body:
        comparing, go_on = asyncio.Event(), asyncio.Event()
        settle = PieceChecks.settle

        async def slowly(self: PieceChecks, metadata: Metadata) -> None:
            comparing.set()
            await go_on.wait()
            await settle(self, metadata)

        monkeypatch.setattr(PieceChecks, "settle", slowly)
        body.say(RIGHT)
        await comparing.wait()
        body.say(WRONG_WHOLE)
        go_on.set()
        with pytest.raises(WrongContent):
            await body.rest()


async def test_what_is_said_between_the_question_and_the_object_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, demanded = Store.create, want_for(service=msgspec.structs.replace(OWN, require="anchored"))
    anchor = SayingAnchor(RIGHT)
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:

        async def late(store: Store, *args: Any, **options: Any) -> StoredObject:
            anchor.told = Statements.of((WRONG_WHOLE,))
            rig.coordinator.ask_again()
            return await create(store, *args, **options)

        monkeypatch.setattr(Store, "create", late)
        obj = await rig.opened(demanded)
        with pytest.raises((WrongContent, NoSource, GenerationChanged)):
            await rig.read(obj, demanded)
        await rig.idle()
        assert not obj.pieces.complete
