"""What an operator sees of fills: which content, how far it has come, who waits; no query, and no more than fits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from cacheserver.core.request.keys import object_id
from cacheserver.fill.snapshots import PATH_LIMIT, FillSnapshot, shortened
from tests.support.content import blob
from tests.support.filling import filling, quick, want_for
from tests.support.scripted import ScriptedUpstream, Turn
from tests.support.stored import PIECE, put_pieces, settled

BODY = blob(61, 4 * PIECE)
KEY = "own\nhttp\na.test\n/a\ntoken=secret"


async def test_an_object_that_is_being_fetched_is_shown_with_how_far_it_has_come(tmp_path: Path) -> None:
    gate, plain = asyncio.Event(), want_for()
    want = replace(plain, target=replace(plain.target, key=KEY, object_id=object_id(KEY)))
    upstream = ScriptedUpstream(BODY)
    upstream.script.append(Turn(gate=gate))
    async with filling(tmp_path, upstream, options=quick(parallel=1)) as rig:
        obj = await rig.opened(want, (0, None))
        await put_pieces(rig.store, obj, [3], BODY)
        reading = asyncio.create_task(rig.read(obj, want))
        await settled()
        progress = rig.fills[0].progress
        progress.hold()
        progress.advance(1, PIECE + 100)
        shown = FillSnapshot("own", "a.test/a", "a.test", len(BODY), PIECE + 100, 1, 1)
        assert rig.coordinator.snapshots(5) == ([shown], 1)
        assert rig.coordinator.snapshots(0) == ([], 1)
        assert rig.coordinator.reader_count == 1
        progress.advance(1, PIECE)
        progress.stop_holding()
        gate.set()
        assert await reading == BODY
        await rig.assert_clean()
        assert (rig.coordinator.snapshots(5), rig.coordinator.reader_count) == (([], 0), 0)


def test_a_long_name_is_cut_in_its_middle() -> None:
    assert shortened("x" * PATH_LIMIT) == "x" * PATH_LIMIT
    cut = shortened("a" * PATH_LIMIT + "b" * PATH_LIMIT)
    assert cut == "a" * 98 + "..." + "b" * 98
    assert len(cut) <= PATH_LIMIT
