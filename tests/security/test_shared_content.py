"""What one client asks, in its own words or for itself alone, changes nothing of what the others get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from tests.node.test_spellings import BODY, CONFIG, REFUSALS, is_right, picky
from tests.security.figures import Figure, Row, Scene
from tests.support.content import Content, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, FRESH, HOST, THIRD_HOST, Ground, GroundOptions, running_ground, was_hit
from tests.support.operator import post
from tests.support.record import RequestRecord

_SECOND = (("Cache-Control", "max-age=1"),)
_NO_STORE = ("Cache-Control", "no-cache, no-store")
_AGAIN = ("Cache-Control", "no-cache")
_ASKED = ([_NO_STORE], [_AGAIN, ("Authorization", "Basic eDp5")], [_AGAIN, ("Cookie", "who=me")])
_TOLD = (
    *(Content(b"no", status=status) for status in (400, 401, 403, 404, 410, 500, 503)),
    Content(b"", status=302, headers=(("Location", "/elsewhere"),)),
    Content(blob(152, 20_000), etag='"v2"', headers=(("Cache-Control", "private"),)),
    Content(BODY, etag='"v1"', headers=(("Cache-Control", "no-store"), ("Vary", "*"))),
)
_BAD_PER_S = 2


def is_private(record: RequestRecord) -> bool:
    """Whether the origin takes a request for one that is for its client alone."""
    named = any(name in record.fields for name in ("Authorization", "Cookie"))
    return named or "no-store" in (record.fields.value("Cache-Control") or "")


def answering(held: Content, told: Content) -> object:
    """An origin that tells private requests something else."""
    return lambda record: told if is_private(record) else held


async def pinned(ground: Ground, path: str) -> None:
    """Pin a content, and wait until it is there."""
    assert (await post(ground, "/api/v1/pin", {"url": f"http://{HOST}{path}"}))[0] == 200

    async def whole() -> bool:
        return was_hit(await ground.get(path))

    await eventually(whole)


async def measure_private(scene: Scene) -> Figure:
    """Private requests of every kind against stored and against pinned content."""
    faults, asked = [], 0
    async with running_ground(scene.directory, GroundOptions()) as ground:
        for number, (told, pin) in enumerate(product(_TOLD, (False, True))):
            path = ground.new_path()
            ground.origin.add(path, answering(Content(BODY, etag='"v1"', headers=FRESH), told))  # type: ignore[arg-type]
            await (pinned(ground, path) if pin else ground.get(path))
            for _ in range(scene.size(5, 1)):
                for lines in _ASKED:
                    await ground.get(path, *lines)
                    asked += 1
                    before = len(ground.origin.asked(path))
                    after = await ground.get(path)
                    if not was_hit(after) or after.body != BODY or len(ground.origin.asked(path)) != before:
                        kind = "pinned" if pin else "stored"
                        faults.append(f"{kind} content, answer {number // 2}, {lines}: {after.status}, fetched again")
    return Figure(f"{asked} private requests, {len(faults)} contents removed or fetched again", faults)


PRIVATE = Row(
    "requests with no-store, Authorization or Cookie against stored and pinned content",
    "nothing removed, 0 fetched again for others",
    measure_private,
)


def bad(path: str) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    """Requests that share the healthy one's key and are refused, for ever."""
    while True:
        yield f"{path}?P1=bad", ()
        yield f"{path}?P1=good", (("X-Key", "bad"),)


async def measure_spellings(scene: Scene) -> Figure:
    """Two a second of bad spellings of each content, which is fresh for a second, while others ask for it."""
    failed, asked = list[str](), 0
    async with running_ground(scene.directory, GroundOptions(config=CONFIG)) as ground:

        async def one(host: str, status: int) -> None:
            nonlocal asked
            path = picky(ground, Content(b"no", status=status), headers=_SECOND)
            attack = bad(path)
            for _ in range(scene.size(60, 2) * _BAD_PER_S):
                target, lines = next(attack)
                await ground.get(target, *lines, host=host)
                for get in (ground.get, ground.get_as_client):
                    got = await get(f"{path}?P1=good", host=host)
                    asked += 1
                    if not is_right(got):
                        failed.append(f"{host}, origin says {status}: {got.status} {got.body[:60]!r}")
                await asyncio.sleep(1 / _BAD_PER_S)

        await asyncio.gather(*(one(host, status) for host in (THIRD_HOST, DO_HOST) for status in REFUSALS))
    return Figure(f"{len(failed)} of {asked} requests for the healthy URL failed", failed)


SPELLINGS = Row("2 requests a second of a bad spelling", "0 failures of the healthy URL", measure_spellings)


async def test_private_requests_change_nothing_that_is_stored(tmp_path: Path) -> None:
    (await measure_private(Scene(tmp_path))).check()


async def test_bad_spellings_keep_nobody_from_the_healthy_url(tmp_path: Path) -> None:
    (await measure_spellings(Scene(tmp_path))).check()
