"""Asking sources only when they want to be asked: what goes out, and what a held request gets."""

from __future__ import annotations

import math
from typing import cast

import pytest

from cacheserver.core.cache.back_off import BackOff
from cacheserver.core.cache.sources import Source
from cacheserver.core.cache.upstream_request import UpstreamRequest
from cacheserver.core.errors import ConnectFailed, UpstreamError, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service
from cacheserver.upstream.backing_off import BackingOff
from cacheserver.upstream.client import UpstreamClient
from tests.support.scripted import ScriptedAnswer, ScriptedUpstream, Turn

SERVICE = Service(name="own", hosts=("a.example",), own=True)
RETRY = (("Retry-After", "30"),)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def wall_s(self) -> float:
        return self.now_s

    monotonic_s = wall_s


class Client(ScriptedUpstream):
    """Notes how long it may wait."""

    def __init__(self) -> None:
        super().__init__(b"body")
        self.within_s: list[float] = []

    async def open(self, request: UpstreamRequest, *, within_s: float = math.inf) -> ScriptedAnswer:
        self.within_s.append(within_s)
        return await super().open(request)


class Scene:
    def __init__(self) -> None:
        self.client, self.clock = Client(), Clock()
        self.upstream = BackingOff(cast("UpstreamClient", self.client), BackOff(most_s=60.0), self.clock)

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str | None, bytes]:
        place = Source("http", "a.example", 80, path)
        answer = await self.upstream.open(UpstreamRequest(method, place, Fields(), SERVICE))
        body = await answer.read()
        assert await answer.read() == b""
        answer.close()
        return answer.status, answer.fields.value("Retry-After"), body


async def test_while_a_refusal_stands_it_is_repeated_with_what_is_left_of_it() -> None:
    scene = Scene()
    scene.client.script.append(Turn(status=503, fields=RETRY))
    assert await scene.ask("/x") == (503, "30", b"refused")
    scene.clock.now_s += 9.5
    assert await scene.ask("/x") == (503, "21", b"the origin asked to be asked later\n")
    assert await scene.ask("/x", "HEAD") == (503, "21", b"")
    assert await scene.ask("/y") == (200, None, b"body")
    assert [request.place.path_and_query for request in scene.client.requests] == ["/x", "/y"]


async def test_a_refusal_ends_with_the_probe_that_succeeds() -> None:
    scene = Scene()
    scene.client.script.append(Turn(status=429, fields=RETRY))
    assert (await scene.ask("/x"))[0] == 429
    assert (await scene.ask("/y"))[0] == 429
    scene.clock.now_s += 30
    assert [(await scene.ask(path))[0] for path in ("/x", "/x", "/y")] == [200, 200, 200]
    assert len(scene.client.requests) == 4


@pytest.mark.parametrize(("failure", "expected"), [(UpstreamTimeout, 1.5), (ConnectFailed, math.inf)])
async def test_a_source_that_was_silent_is_not_waited_for_long_but_by_the_probe(
    failure: type[UpstreamError], expected: float
) -> None:
    scene = Scene()
    for path in ("/a", "/b", "/c", "/d", "/e"):
        scene.client.script.append(Turn(refuse=failure("silence")))
        with pytest.raises(failure):
            await scene.ask(path)
    assert (await scene.ask("/f"))[0] == 200
    await scene.ask("/g")
    assert scene.client.within_s == [math.inf] * 4 + [expected] * 2 + [math.inf]
