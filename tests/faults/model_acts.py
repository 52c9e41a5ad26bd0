"""What is done to the node of the model while clients ask, one act after the other.

Owns the acts and their weights. Must not judge answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath

from cacheserver.core.request.keys import cache_key, canonical_target, object_id
from cacheserver.core.request.service import Service
from tests.faults.load import GONE
from tests.faults.model_clients import Asking, drawn, whole
from tests.faults.model_truth import Asked, Path
from tests.support.client import RawClient
from tests.support.content import Fault
from tests.support.disks import filled_up
from tests.support.flow import eventually
from tests.support.ground import HOST
from tests.support.origin import Origin

_FULL_S = 0.5
_STOPPED_S = 0.8
_BROKEN_BYTES = 10_000
"""Less than a third of a piece: three tries do not finish one."""
_MANY_BYTES, _FEW_BYTES = 500_000, 20_000
_LATE_S = 0.8


class Acts:
    """What is done to one node."""

    def __init__(
        self,
        asking: Asking,
        origin: Origin,
        rng: random.Random,
        config: str,
        *,
        disk: FilePath | None,
        removing: bool,
    ) -> None:
        """``disk``: a small file system of its own that may be filled up. ``removing``: object files are removed."""
        self._asking = asking
        self._node = asking.node
        self._origin = origin
        self._rng = rng
        self._config = config
        self._disk = disk
        self.done: Counter[str] = Counter()
        self._acts: dict[str, tuple[float, Callable[[], Awaitable[None]]]] = {
            "change": (8, self.change),
            "purge": (8, self.purge),
            "purge-revalidating": (6, self.purge_revalidating),
            "pin": (3, self.pin),
            "unpin": (3, self.unpin),
            "scrub": (2, self.scrub),
            "reload": (2, self.reload),
            "slow-origin": (4, self.slow_origin),
            "revalidate-closed": (3, self.revalidate_closed),
            "remove-file": (2 if removing else 0, self.remove_file),
            "stop": (1, self.stop_and_continue),
            "kill": (0.7, self.kill),
            "full": (0.5 if disk is not None else 0, self.full),
        }

    async def run(self, seconds: float) -> None:
        """Act after act."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        names, weights = list(self._acts), [weight for weight, _ in self._acts.values()]
        while loop.time() < until_s:
            (name,) = self._rng.choices(names, weights)
            await self._acts[name][1]()
            self.done[name] += 1
            await asyncio.sleep(self._rng.uniform(0, 0.2))  # the pace is what is asked for

    def _path(self) -> Path:
        return self._rng.choice(list(self._asking.truth.paths.values()))

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def _post(self, route: str, body: dict[str, str]) -> tuple[int, dict[str, object]]:
        data = json.dumps(body)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        async with RawClient(*self._node.admin) as client:
            await client.send(client.head("POST", route, headers) + data.encode())
            response = await client.receive()
        return response.status, json.loads(response.body)

    async def _purge(self, path: Path) -> None:
        began_s = self._now_s()
        status, answer = await self._post("/api/v1/purge", {"url": f"http://{HOST}{path.path}"})
        assert status in (200, 404), (status, answer)
        if not answer["away"] and not answer["left_on"]:
            path.purges.append((began_s, self._now_s()))

    # -- at the origin ------------------------------------------------------------------------------------------

    async def change(self) -> None:
        """Some paths hold another generation."""
        for path in self._rng.sample(list(self._asking.truth.paths.values()), 3):
            if path.changes:
                self._asking.truth.change(path)

    async def slow_origin(self) -> None:
        """The next answers for a path are late, or their bodies slow."""
        late = Fault(delay_s=self._rng.uniform(0, 0.6))
        slow = Fault(rate_bps=self._rng.uniform(200_000, 1_000_000))
        self._origin.fault(self._path().path, *self._rng.choice(((late, late), (late, slow), (slow,))))

    async def break_origin(self) -> None:
        """Answers for a large path end too early in the midst of a piece, until the node gives up. Nobody else asks."""
        path = self._rng.choice([path for path in self._asking.truth.paths.values() if path.most_bytes > _MANY_BYTES])
        began_s = self._now_s()
        path.broken.append((began_s, float("inf")))
        self._origin.fault(path.path, always=Fault(truncate_after=_BROKEN_BYTES))
        start = self._rng.randrange(len(path.generations[-1].body))
        fields = (("Range", f"bytes={start}-{start}"),)
        await self._ask(path, Asked(path.path, "GET", fields, ((start, start + 1),), began_s))
        await eventually(self._given_up)
        self._origin.heal(path.path)
        path.broken[-1] = (began_s, self._now_s())

    async def _given_up(self) -> bool:
        return (await self._node.metrics()).total("cacheserver_fills_in_flight") == 0

    # -- at the node --------------------------------------------------------------------------------------------

    async def purge(self) -> None:
        """Purge, most often what has just changed, and ask for it at once."""
        path = self._path()
        if path.changes and self._rng.random() < 0.7:
            self._asking.truth.change(path)
        await self._purge(path)
        await asyncio.gather(*(self._ask(path) for _ in range(2)))

    async def purge_revalidating(self) -> None:
        """Purge while the origin is asked about the same path, again and again: each time a client opens it anew."""
        path = self._path()
        clients = []
        for _ in range(self._rng.randint(1, 3)):
            self._origin.fault(path.path, *(Fault(delay_s=self._rng.uniform(0, 0.2)) for _ in range(3)))
            clients.append(asyncio.create_task(self._ask(path)))
            await asyncio.sleep(self._rng.uniform(0, 0.1))
            if path.changes:
                self._asking.truth.change(path)
            await self._purge(path)
            clients.append(asyncio.create_task(self._ask(path)))
        await asyncio.gather(*clients)

    async def revalidate_closed(self) -> None:
        """Ask for so many others while the origin is asked about a few stored ones that the node closes these."""
        small = [path for path in self._asking.truth.paths.values() if path.most_bytes < _FEW_BYTES]
        late = self._rng.sample([path for path in small if not path.lifetime_s], 4)
        await self._ask_all(late)
        for path in late:
            self._origin.fault(path.path, Fault(delay_s=_LATE_S))
        clients = [asyncio.create_task(self._ask(path, whole(path))) for path in late]
        others = [path for path in small if path not in late]
        for part in (others[::3], others[1::3], others[2::3]):
            clients.append(asyncio.create_task(self._ask_all(part)))
        await asyncio.gather(*clients)

    async def _ask_all(self, paths: list[Path]) -> None:
        for path in paths:
            await self._ask(path, whole(path))

    async def _ask(self, path: Path, asked: Asked | None = None) -> None:
        asked = asked or drawn(path, self._rng)
        try:
            async with self._asking.connection(self._rng) as client:
                asked = Asked(path.path, asked.method, asked.fields, asked.spans, self._now_s())
                await self._asking.pipelined(client, [asked])
        except GONE:
            pass

    async def pin(self) -> None:
        """Pin a path; refused where there is no room."""
        await self._post("/api/v1/pin", {"url": f"http://{HOST}{self._path().path}"})

    async def unpin(self) -> None:
        """Unpin some."""
        for path in self._rng.sample(list(self._asking.truth.paths.values()), 4):
            await self._post("/api/v1/unpin", {"url": f"http://{HOST}{path.path}"})

    async def scrub(self) -> None:
        """Read all again."""
        await self._post("/api/v1/scrub", {})

    async def reload(self) -> None:
        """SIGHUP with other settings."""
        extra = self._rng.choice(("", 'allow = ["other.example.test"]\n'))
        self._node.config_file.write_text(extra + self._config)
        self._node.reload()

    async def remove_file(self) -> None:
        """Somebody removes an object's file."""
        files = list((self._node.cache_dir / "objects").glob(f"??/{'?' * 32}"))
        if not files:
            return
        file = self._rng.choice(files)
        ids = {_id_of(path): path for path in self._asking.truth.paths.values()}
        for path in (ids[file.name],) if file.name in ids else ids.values():
            path.removed.append(self._now_s())
        file.unlink(missing_ok=True)

    async def stop_and_continue(self) -> None:
        """The machine is busy with something else."""
        self._node.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._rng.uniform(0, _STOPPED_S))
        self._node.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and a start on what is there."""
        began_s = self._now_s()
        # Until it is over, what clients get is excused.
        self._asking.killed.spans.append((began_s, float("inf")))
        await self._node.kill()
        await self._node.start()
        self._asking.killed.spans[-1] = (began_s, self._now_s())

    async def full(self) -> None:
        """The disk has no room for a moment."""
        assert self._disk is not None
        began_s = self._now_s()
        self._asking.full.spans.append((began_s, float("inf")))
        filler = filled_up(self._disk)
        await asyncio.sleep(self._rng.uniform(0.1, _FULL_S))
        os.unlink(filler)
        self._asking.full.spans[-1] = (began_s, self._now_s())


def _id_of(path: Path) -> str:
    """Of the object at a path, or of its Vary marker."""
    service = Service(name="model", hosts=(HOST,), own=True, scheme="http")
    return object_id(cache_key(service, "http", HOST, 80, canonical_target(path.path)))
