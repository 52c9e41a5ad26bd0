"""Each reason for which content is not let out is counted by its own word, and refusals are named in the log."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.errors import NoSource, WrongContent
from cacheserver.core.integrity.release import REFUSED, Reason
from cacheserver.core.integrity.trust import Claim, Statements, Trust
from cacheserver.fill.metadata import NOTHING, Metadata
from cacheserver.fill.outcome import Relayed
from tests.support.anchors import SayingAnchor
from tests.support.content import blob
from tests.support.filling import OWN, Rig, filling, quick, want_for
from tests.support.manifests import manifest_of
from tests.support.meter import CountingMeter
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, representation

BODY = blob(81, 3 * PIECE + 100)
REP = representation("a", len(BODY))
WANT = want_for()
STRICT = want_for(service=msgspec.structs.replace(OWN, require="anchored"))
WRONG = Claim("catalogue", authentic=True, sha1=hashlib.sha1(b"another").digest())
KNOWN = Metadata(manifest_of(BODY, PIECE), Trust.SELF_CONSISTENT)


def refused(meter: CountingMeter) -> dict[str, int]:
    """What was counted, by reason."""
    return {key[1]: count for key, count in meter.counts.items() if key[0] == "content_refused" and count}


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The reasons of the event, in order."""
    return [record.facts["reason"] for record in caplog.records if record.getMessage() == "content_refused"]  # type: ignore[attr-defined]


def test_the_words_are_those_of_the_table_and_few() -> None:
    assert set(REFUSED) <= {reason.value for reason in Reason}
    assert len(REFUSED) == len(set(REFUSED)) < 12


async def test_an_opening_without_an_anchor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        outcome, _ = await rig.coordinator.open(STRICT, (0, None))
        assert isinstance(outcome, Relayed)
        outcome.answer.close()
        assert (refused(rig.meter), named(caplog)) == ({"not_anchored": 1}, ["not_anchored"])


async def test_an_empty_content_that_should_not_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with filling(tmp_path, ScriptedUpstream(b""), anchor=SayingAnchor(WRONG)) as rig:
        with pytest.raises(WrongContent):
            await rig.coordinator.open(WANT, (0, None))
        assert (refused(rig.meter), named(caplog)) == ({"wrong_content": 1}, ["wrong_content"])


async def test_a_whole_that_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=SayingAnchor(WRONG)) as rig:
        obj = await rig.opened(WANT)
        with pytest.raises(WrongContent):
            await rig.read(obj, WANT)
        await rig.idle()
        assert (refused(rig.meter), named(caplog)) == ({"wrong_content": 1}, ["wrong_content"])


async def given(rig: Rig, metadata: Metadata) -> None:
    """All fills get this metadata."""

    async def fetch(*_args: object, **_kwargs: object) -> Metadata:
        return metadata

    rig.fetcher.fetch = fetch  # type: ignore[method-assign]


async def test_a_bad_piece_is_counted_and_not_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(flip=True))
    async with filling(tmp_path, upstream, options=quick(parallel=1, span_pieces=8)) as rig:
        await given(rig, KNOWN)
        obj = await rig.store.create(REP)
        obj.hold()
        rig.coordinator._fill(obj, WANT, REP.fields, KNOWN)
        assert await rig.read(obj, WANT) == BODY
        obj.release()
        assert (refused(rig.meter), named(caplog)) == ({"bad_piece": 1}, [])


async def test_a_stored_piece_that_a_late_manifest_contradicts(tmp_path: Path) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        await given(rig, KNOWN)
        obj = await rig.store.create(REP)
        with obj.holding():
            await put_pieces(rig.store, obj, range(4), bytes(PIECE) + BODY[PIECE:])
            await rig.coordinator.recheck(obj, WANT)
        assert refused(rig.meter) == {"bad_at_rest": 1}


async def test_a_statement_that_cannot_be_had(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with filling(tmp_path, ScriptedUpstream(BODY)) as rig:
        await given(rig, replace(NOTHING, blocked="every source is banned"))
        obj = await rig.opened(WANT)
        with pytest.raises(NoSource):
            await rig.read(obj, WANT)
        await rig.idle()
        assert set(refused(rig.meter)) == set(named(caplog)) == {"no_source"}


async def test_stored_content_that_waits_for_a_mute_anchor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    anchor = SayingAnchor()
    async with filling(tmp_path, ScriptedUpstream(BODY), anchor=anchor) as rig:
        obj = await rig.opened(WANT)
        await rig.read(obj, WANT)
        await rig.idle()
        anchor.told = Statements.of((), ("content_policy",))
        rig.judge.begin_era()
        assert await rig.lookup.find(STRICT) is None
        assert (refused(rig.meter), named(caplog)) == ({"pending": 1}, ["pending"])
        anchor.told = Statements()
        assert await rig.lookup.find(STRICT) is None
        assert refused(rig.meter) == {"pending": 1, "not_anchored": 1}
        assert obj.obsolete


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
