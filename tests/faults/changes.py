"""What an operator does to a running node under load: reload it and end it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.figures import Figure, Size, all_of, at_least, none_of
from tests.faults.load import GONE, GroundOptions, Tally, running_ground
from tests.support.client import RawClient
from tests.support.content import Content, blob
from tests.support.ground import FRESH, HOST, PIECE, THIRD_HOST
from tests.support.node import Node, running_node
from tests.support.origin import Origin
from tests.support.tls_scene import BODY, CONFIG, TlsScene, install, issue

LARGE = blob(88, 24 * PIECE)


@dataclass(slots=True)
class Traffic:
    """Clients that ask all the time."""

    requests: int = 0
    failed: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_asking(self, once: Callable[[], Awaitable[None]]) -> None:
        """One failure is noted, and the client begins anew."""
        while not self.stop.is_set():
            try:
                await once()
            except (*GONE, AssertionError, asyncio.IncompleteReadError, ssl.SSLError) as exc:
                self.failed.append(f"{type(exc).__name__}: {exc}")

    async def over_tls(self, scene: TlsScene, context: ssl.SSLContext, asked: int) -> None:
        """So many requests on one connection."""
        exchange = await scene.connect(context)
        for _ in range(asked):
            if self.stop.is_set():
                break
            assert await exchange.get() == BODY
            self.requests += 1
        await exchange.close()

    async def plain(self, node: Node, asked: int) -> None:
        """The same without TLS."""
        async with RawClient(*node.content) as client:
            for _ in range(asked):
                if self.stop.is_set():
                    break
                assert (await client.request("GET", "/b", host=HOST)).body == BODY
                self.requests += 1


async def _reloads(directory: Path, seconds: int) -> tuple[Traffic, float, int]:
    folder, traffic = directory / "tls", Traffic()
    folder.mkdir(parents=True)
    install(folder, issue(days_left=20))
    async with Origin() as origin:
        origin.add("/b", Content(BODY, headers=FRESH))
        connect_to, allow = {HOST: origin.address}, (f"http://{HOST}",)
        async with running_node(directory, allow=allow, connect_to=connect_to, config=CONFIG) as node:
            scene = TlsScene(node, folder)
            context = scene.client()
            began_s = time.monotonic()
            clients = [asyncio.create_task(traffic.keep_asking(lambda: traffic.plain(node, 10_000))) for _ in range(3)]
            clients.append(asyncio.create_task(traffic.keep_asking(lambda: traffic.plain(node, 20))))
            for asked in (10_000, 20):
                clients.append(
                    asyncio.create_task(
                        traffic.keep_asking(lambda asked=asked: traffic.over_tls(scene, context, asked))  # type: ignore[misc]
                    )
                )
            for second in range(seconds):
                install(folder, issue(days_left=21 + second))
                extra = f'allow = ["{THIRD_HOST}"]\n' if second % 2 else ""
                node.config_file.write_text(extra + CONFIG)
                node.reload()
                await asyncio.sleep(1)  # the pace is what is asked for
            traffic.stop.set()
            await asyncio.gather(*clients)
            rate = traffic.requests / (time.monotonic() - began_s)
            reloaded = sum(line.get("event") == "reloaded" for line in node.log)
    return traffic, rate, reloaded


async def reloads(directory: Path, size: Size) -> list[Figure]:
    """Settings and certificate each second."""
    seconds = size.choose(5, 60)
    traffic, rate, reloaded = await _reloads(directory, seconds)
    fault = f"reload each second for {seconds} s"
    print("  ", traffic.failed[:5])
    return [
        none_of(fault, "failed requests", len(traffic.failed), among=f"{traffic.requests} requests"),
        at_least(fault, "requests", rate, size.choose(50, 200), unit="/s"),
        at_least(fault, "reloads taken", reloaded, seconds - 1),
    ]


async def _sigterm(directory: Path, tally: Tally) -> tuple[int, int, int]:
    """Exit code, answers that were running, those of them that ended."""
    async with running_ground(directory, GroundOptions()) as ground:
        warm, cold = ground.add(LARGE), ground.add(LARGE)
        assert (await ground.get(warm)).body == LARGE
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(RawClient(*ground.node.content, receive_buffer=65_536))
                for _ in range(12)
            ]
            for client in clients:
                await client.request("GET", warm, (("Range", "bytes=0-9"),), host=HOST)
            paths = [cold if number % 3 == 0 else warm for number in range(len(clients))]
            running = [await client.start("GET", path, host=HOST) for client, path in zip(clients, paths, strict=True)]
            ended = asyncio.create_task(ground.node.stop())
            answers = await asyncio.gather(
                *(client.finish(answer) for client, answer in zip(clients, running, strict=True))
            )
            for answer in answers:
                tally.judge(answer, (LARGE,), 200)
            return await ended, len(running), sum(answer.complete for answer in answers)


async def sigterm(directory: Path, size: Size) -> list[Figure]:
    """SIGTERM while bodies go out."""
    rounds, tally, codes, running, complete = size.choose(2, 40), Tally(), [], 0, 0
    for number in range(rounds):
        code, begun, ended = await _sigterm(directory / str(number), tally)
        codes.append(code)
        running, complete = running + begun, complete + ended
    fault = f"SIGTERM under load, {len(codes)} times"
    return [
        all_of(fault, "of running answers end", complete, running),
        none_of(fault, "wrong answers", tally.wrong, among=f"{running} answers"),
        all_of(fault, "of exit codes are 0", codes.count(0), len(codes)),
    ]
