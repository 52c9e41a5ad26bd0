"""What is said of a content while it is being fetched: it is not completed as what it must not be."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.errors import GenerationChanged
from cacheserver.core.integrity.trust import Claim, Statements
from cacheserver.fill.metadata import MetadataFetcher
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, filling, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, settled

BODY = blob(26, 4 * PIECE)
RIGHT = Claim("catalogue", authentic=True, sha256=hashlib.sha256(BODY).digest())
OTHER = Claim("catalogue", authentic=True, sha256=bytes(32))
WANT = want_for()
DEMANDED = want_for(service=msgspec.structs.replace(OWN, require="anchored"))


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        ((), (OTHER,), False),
        ((RIGHT,), (OTHER,), False),
        ((), (RIGHT,), False),
        ((RIGHT,), (RIGHT,), True),
        ((RIGHT,), (), True),
        ((), (), True),
    ],
)
async def test_a_fill_is_given_up_when_something_else_is_said_of_its_content(
    tmp_path: Path, before: tuple[Claim, ...], after: tuple[Claim, ...], goes_on: bool
) -> None:
    anchor, upstream, gate = SayingAnchor(*before), ScriptedUpstream(BODY), asyncio.Event()
    upstream.script.extend([Turn(), Turn(gate=gate)])
    async with filling(tmp_path, upstream, anchor=anchor) as rig:
        obj = await rig.opened(WANT, (0, PIECE))
        reading = asyncio.create_task(rig.read(obj, WANT))
        while len(upstream.answers) < 2:
            await settled()
        anchor.told = Statements.of(after)
        rig.coordinator.restated()
        await settled()
        gate.set()
        if goes_on:
            assert await reading == BODY
        else:
            with pytest.raises(GenerationChanged):
                await reading
        assert obj.obsolete is not goes_on
        await rig.assert_clean()


async def test_what_is_said_while_metadata_is_awaited_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor, real, gate = SayingAnchor(RIGHT), MetadataFetcher.fetch, asyncio.Event()

    async def late(fetcher: MetadataFetcher, *args: object, **options: object) -> object:
        learnt = await real(fetcher, *args, **options)  # type: ignore[arg-type]
        await gate.wait()
        return learnt

    monkeypatch.setattr(MetadataFetcher, "fetch", late)
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.opened(WANT, (0, PIECE))
        reading = asyncio.create_task(rig.read(obj, WANT))
        await settled()
        anchor.told = Statements.of((OTHER,))
        rig.coordinator.restated()
        gate.set()
        with pytest.raises(GenerationChanged):
            await reading
        assert obj.obsolete
        await rig.assert_clean()


async def test_what_was_learnt_before_an_object_was_made_is_compared_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor, real = SayingAnchor(RIGHT), MetadataFetcher.fetch

    async def fetch(fetcher: MetadataFetcher, *args: object, **options: object) -> object:
        learnt = await real(fetcher, *args, **options)  # type: ignore[arg-type]
        anchor.told = Statements.of((OTHER,))
        rig.coordinator.restated()
        return learnt

    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        monkeypatch.setattr(MetadataFetcher, "fetch", fetch)
        obj = await rig.opened(DEMANDED, (0, PIECE))
        with pytest.raises(GenerationChanged):
            await rig.read(obj, DEMANDED)
        assert obj.obsolete
        await rig.assert_clean()
