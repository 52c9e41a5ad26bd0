"""Claims, watermarks and waiters of one object."""

from __future__ import annotations

import asyncio

import pytest

from cacheserver.core.errors import DiskError, TruncatedBody
from cacheserver.core.piece_map import PRESENT, PieceMap
from cacheserver.fill.object.claims import Progress
from tests.support.stored import settled


@pytest.fixture
def pieces() -> PieceMap:
    return PieceMap(35, 10)


@pytest.fixture
def progress(pieces: PieceMap) -> Progress:
    return Progress(pieces)


async def waiting(progress: Progress, piece: int) -> asyncio.Task[None]:
    task = asyncio.create_task(progress.wait(piece))
    await settled()
    assert not task.done()
    return task


def test_a_piece_has_one_claim(progress: Progress) -> None:
    progress.claim(0, 2, "one")
    with pytest.raises(AssertionError, match="I2"):
        progress.claim(1, 3, "two")


def test_readable_is_what_is_present_and_what_has_arrived_behind_it(pieces: PieceMap, progress: Progress) -> None:
    assert progress.readable_until(0, 35) == 0
    progress.claim(0, 3, "flight")
    progress.advance(0, 4)
    assert [progress.readable_until(at, 35) for at in (0, 3, 4, 5)] == [4, 4, 4, 5]
    assert progress.readable_until(0, 2) == 2
    pieces.mark(0, PRESENT)
    progress.done(0)
    progress.advance(1, 17)
    assert progress.readable_until(0, 35) == 17
    assert progress.readable_until(20, 35) == 20


def test_a_watermark_ends_with_its_claim(progress: Progress) -> None:
    progress.claim(0, 2, "flight")
    progress.advance(0, 9)
    progress.release("flight", None)
    assert progress.readable_until(0, 35) == 0
    assert progress.claims == {}


def waiters(progress: Progress) -> int:
    """Readers that wait now."""
    return sum(len(waiters) for waiters in progress._waiters.values())


def test_held_bytes_show_only_when_exposed_or_no_longer_held(progress: Progress) -> None:
    progress.hold()
    progress.claim(0, 2, "flight")
    progress.advance(0, 6)
    progress.advance(1, 12)
    assert progress.readable_until(0, 35) == 0
    progress.expose(0)
    assert progress.readable_until(0, 35) == 6
    assert progress.readable_until(10, 35) == 10
    progress.stop_holding()
    assert progress.readable_until(10, 35) == 12


@pytest.mark.parametrize(
    ("holding", "exposed", "seen", "epochs"),
    [(True, False, False, 0), (True, True, False, 1), (False, False, False, 1), (True, False, True, 1)],
)
def test_a_rejected_piece_begins_anew_and_tells_who_has_seen_it(
    progress: Progress, holding: bool, exposed: bool, seen: bool, epochs: int
) -> None:
    if holding:
        progress.hold()
    progress.claim(0, 1, "flight")
    progress.advance(0, 10)
    if exposed:
        progress.expose(0)
    progress.reject(0, seen=seen)
    assert progress.epoch(0) == epochs
    assert progress.readable_until(0, 35) == 0
    assert progress.claims == {0: "flight"}


async def test_waiters_wake_for_their_own_piece(pieces: PieceMap, progress: Progress) -> None:
    progress.claim(0, 3, "flight")
    first, second = await waiting(progress, 0), await waiting(progress, 1)
    progress.advance(0, 3)
    await first
    assert not second.done()
    pieces.mark(1, PRESENT)
    progress.done(1)
    await second
    assert waiters(progress) == 0


async def test_all_waiters_of_a_piece_wake(progress: Progress) -> None:
    progress.claim(0, 1, "flight")
    tasks = [await waiting(progress, 0) for _ in range(3)]
    assert waiters(progress) == 3
    progress.done(0)
    await asyncio.gather(*tasks)


async def test_a_flight_that_ends_tells_the_waiters_of_its_own_pieces(progress: Progress) -> None:
    progress.claim(0, 2, "one")
    progress.claim(2, 4, "two")
    mine, other = await waiting(progress, 1), await waiting(progress, 2)
    progress.release("one", TruncatedBody("cut"))
    with pytest.raises(TruncatedBody):
        await mine
    assert not other.done()
    assert progress.claims == {2: "two", 3: "two"}
    progress.release("two", None)
    await other


async def test_everybody_hears_that_the_object_is_gone(progress: Progress) -> None:
    tasks = [await waiting(progress, piece) for piece in (0, 0, 3)]
    progress.fail_all(DiskError("gone"))
    for task in tasks:
        with pytest.raises(DiskError):
            await task
    assert waiters(progress) == 0


async def test_a_cancelled_waiter_leaves_nothing_behind(progress: Progress) -> None:
    gone, stays = await waiting(progress, 0), await waiting(progress, 0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert waiters(progress) == 1
    progress.done(0)
    await stays


async def test_an_error_for_a_waiter_that_was_cancelled_at_the_same_moment_is_not_lost_aloud(
    progress: Progress,
) -> None:
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
    progress.claim(0, 1, "flight")
    task = await waiting(progress, 0)
    progress.release("flight", TruncatedBody("cut"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settled()
    assert unseen == []


def test_the_last_missing_piece_is_guarded_however_far_it_was_shown(pieces: PieceMap) -> None:
    progress = Progress(pieces, guarding=True)
    progress.claim(0, 4, "flight")
    progress.advance(3, 32)
    assert progress.readable_until(30, 35) == 32, "it is not the last one yet"
    for piece in range(3):
        pieces.mark(piece, PRESENT)
        progress.done(piece)
    progress.advance(3, 34)
    progress.expose(3)
    assert progress.readable_until(30, 35) == 30
    progress.reject(3)
    assert progress.epoch(3) == 1, "somebody may have seen its beginning"
    progress.advance(3, 33)
    progress.stop_guarding()
    assert progress.readable_until(30, 35) == 33


def test_a_piece_whose_digest_is_known_is_held_until_it_is_shown_or_done(pieces: PieceMap) -> None:
    progress = Progress(pieces, known={1})
    progress.claim(0, 2, "flight")
    progress.advance(0, 10)
    progress.advance(1, 15)
    assert progress.readable_until(0, 35) == 10
    assert progress.readable_until(10, 35) == 10
    progress.expose(1)
    assert progress.readable_until(10, 35) == 15
    progress.reject(1)
    assert progress.epoch(1) == 1


@pytest.mark.parametrize(("holding", "guarding", "cut"), [(True, False, 1), (False, True, 1), (False, False, 0)])
def test_who_was_shown_bytes_of_a_source_that_broke_off_is_cut_where_something_is_stated(
    pieces: PieceMap, holding: bool, guarding: bool, cut: int
) -> None:
    progress = Progress(pieces, holding=holding, guarding=guarding)
    owner = object()
    progress.claim(1, 2, owner)
    progress.advance(1, pieces.bounds(1)[0] + 1)
    progress.expose(1)
    progress.release(owner, None)
    assert progress.epoch(1) == cut


@pytest.mark.parametrize("what", ["hold", "guard"])
async def test_who_waits_for_held_bytes_wakes_when_nothing_holds_them_any_more(pieces: PieceMap, what: str) -> None:
    for piece in range(3):
        pieces.mark(piece, PRESENT)
    progress = Progress(pieces, holding=what == "hold", guarding=what == "guard")
    progress.claim(3, 4, "flight")
    progress.advance(3, 33)
    task = await waiting(progress, 3)
    (progress.stop_holding if what == "hold" else progress.stop_guarding)()
    async with asyncio.timeout(5):
        await task
    assert progress.readable_until(30, 35) == 33
