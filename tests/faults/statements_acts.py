"""What is done while clients ask for contents that are spoken of: by the catalogue, the sources, the disk, signals.

Owns the acts and their weights. Must not judge answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from cacheserver.core.integrity.content_catalogue import CatalogueDocument, Entry, render_catalogue
from cacheserver.core.request.keys import cache_key, canonical_target, object_id
from cacheserver.core.request.service import Service
from cacheserver.trust.signing import sign
from tests.faults.load import GONE
from tests.faults.statements_clients import TAKEN_BYTES, Asking
from tests.faults.statements_truth import Flip, Spoken
from tests.support.client import RawClient
from tests.support.content import Content, Fault, blob
from tests.support.flow import eventually
from tests.support.ground import FRESH
from tests.support.manifests import b64, manifest_of, phf
from tests.support.node import LogLine, NodeFailed
from tests.support.origin import Origin

LIAR = "http://liar.example.test:80"
_FOUND_S = 8.0


class Acts:
    """What is done to one node, its two sources and its catalogue."""

    def __init__(
        self, asking: Asking, rng: random.Random, *, origin: Origin, liar: Origin, catalogue: Path, key: bytes
    ) -> None:
        self._asking = asking
        self._node = asking.node
        self._rng = rng
        self.origin, self.liar = origin, liar
        self._catalogue, self._key = catalogue, key
        self._issued = 0
        self._kinds: dict[str, str] = {}
        self.done: Counter[str] = Counter()
        self._acts: dict[str, tuple[float, Callable[[], Awaitable[None]]]] = {
            "say": (6, self.say),
            "manifest": (6, self.manifest),
            "lift": (2, self.lift),
            "purge": (5, self.purge),
            "flip": (4, self.flip_under_reader),
            "contradict": (3, self.contradict_under_reader),
            "scrub": (1, self.scrub),
            "sigterm": (2, self.sigterm),
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
            await asyncio.sleep(self._rng.uniform(0, 0.3))  # the pace is what is asked for

    @property
    def _contents(self) -> list[Spoken]:
        return self._asking.contents

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def post(self, route: str, body: dict[str, str]) -> int:
        """Ask the admin listener to act; the status."""
        data = json.dumps(body)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        async with RawClient(*self._node.admin) as client:
            await client.send(client.head("POST", route, headers) + data.encode())
            return (await client.receive()).status

    # -- what is said -------------------------------------------------------------------------------------------

    async def say(self) -> None:
        """Entries of some contents come, go, or name another body: one of a source, or of none."""
        for content in self._rng.sample(self._contents, self._rng.randint(1, 3)):
            other = blob(self._rng.getrandbits(40), len(content.right))
            bodies = (None, content.right, content.right, content.lie, other)
            content.say(self._rng.choice(bodies), self._now_s())
            self._kinds[content.path] = self._rng.choice(("pieces", "whole", "both"))
        await self.publish()

    async def publish(self) -> None:
        """Sign what is said, and have the node take it up."""
        self._issued += 1
        entries = tuple(self._entry(content, content.said) for content in self._contents if content.said is not None)
        self.write(self._catalogue, self._key, entries, self._issued)
        mark = len(self._node.log)
        self._node.reload()
        await self._node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
        for content in self._contents:
            content.confirmed(self._now_s())

    @staticmethod
    def write(catalogue: Path, key: bytes, entries: tuple[Entry, ...], issued: int) -> None:
        """Sign and write the catalogue of number ``issued``."""
        minutes, seconds = divmod(issued, 60)
        text = f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}Z"
        catalogue.write_bytes(render_catalogue(sign(CatalogueDocument(version=1, issued=text, entries=entries), key)))

    def _entry(self, content: Spoken, body: bytes) -> Entry:
        kind = self._kinds.get(content.path, "both")
        pieces = b64(manifest_of(body, content.piece_bytes).hash_of_hashes)
        return Entry(
            length=len(body),
            path=content.path,
            host=content.host,
            hash_of_hashes=None if kind == "whole" else pieces,
            sha256=None if kind == "pieces" else hashlib.sha256(body).hexdigest(),
        )

    async def manifest(self) -> None:
        """The piece-hash files of some contents are withheld, late, wrong for some pieces, or in other pieces."""
        for content in self._rng.sample(self._contents, 2):
            for source, body in ((self.origin, content.right), (self.liar, content.lie)):
                self.manifest_of(content, source, body, self._rng.choice(("right", "right", "late", "wrong", "none")))

    def manifest_of(self, content: Spoken, source: Origin, body: bytes, kind: str) -> None:
        """What one source has in the place of the piece-hash file of a content."""
        path, size = f"{content.path}/pieceshash", content.piece_bytes
        hashed = bytearray(body)
        if kind == "wrong":
            hashed[self._rng.randrange(len(hashed))] ^= 1
        if kind == "late":
            size = self._rng.choice((size // 2, size, size * 2))
        source.add(path, Content(phf(bytes(hashed), size), headers=FRESH))
        source.heal(path)
        if kind == "none":
            source.fault(path, always=Fault.refusing(404))
        if kind == "late":
            source.fault(path, always=Fault(delay_s=self._rng.uniform(0.1, 2.0)))

    async def lift(self) -> None:
        """The source that lies is asked again."""
        await self.post("/api/v1/bans/lift", {"source": LIAR})

    # -- at the node --------------------------------------------------------------------------------------------

    async def purge(self) -> None:
        """Purge a content."""
        content = self._rng.choice(self._contents)
        await self.post("/api/v1/purge", {"url": f"http://{content.host}{content.path}"})

    async def scrub(self) -> None:
        """Read all again."""
        await self.post("/api/v1/scrub", {})

    async def sigterm(self) -> None:
        """A clean stop at any moment, and a start on what is there."""
        began_s = self._now_s()
        self._asking.down.append((began_s, float("inf")))
        await self._node.restart()
        self._asking.down[-1] = (began_s, self._now_s())

    # -- under a reader -----------------------------------------------------------------------------------------

    async def flip_under_reader(self) -> None:
        """A byte that a slow reader has got already is found to be another one on the disk."""
        content = self._large()
        at = self._rng.randrange(content.piece_bytes)
        flip = Flip(at, self._now_s())

        async def spoil() -> Callable[[LogLine], bool] | None:
            file = self._node.cache_dir / "objects" / (name := _id_of(content))[:2] / name
            if not await asyncio.to_thread(_inverted, file, at):
                return None
            content.flips.append(flip)
            await self.scrub()
            return lambda line: line.get("event") == "bad_piece_at_rest" and line.get("object_id") == name

        if await self._under_reader(content, spoil):
            flip.until_s = self._now_s()

    async def contradict_under_reader(self) -> None:
        """A content that a slow reader has begun to get is said to be another one."""
        content = self._large()
        name = _id_of(content)

        async def contradict() -> Callable[[LogLine], bool]:
            content.say(blob(self._rng.getrandbits(40), len(content.right)), self._now_s())
            await self.publish()
            await self._asking.warm(content)  # who asks has it judged at once
            return lambda line: line.get("event") == "stored_object_contradicted" and line.get("object_id") == name

        await self._under_reader(content, contradict)
        content.say(content.right, self._now_s())
        await self.publish()

    def _large(self) -> Spoken:
        return self._rng.choice([each for each in self._contents if len(each.right) > 10 * TAKEN_BYTES])

    async def _under_reader(
        self, content: Spoken, act: Callable[[], Awaitable[Callable[[LogLine], bool] | None]]
    ) -> bool:
        """``act`` while a reader has a small part of what is stored; whether the node says that it has found it bad.

        Such a reader gets no complete body.
        """
        found = False
        content.say(content.right, self._now_s())
        self._kinds[content.path] = "both"
        self.manifest_of(content, self.origin, content.right, "right")
        await self.publish()
        await self._asking.warm(content)
        with contextlib.suppress(*GONE):
            async with self._asking.reader(self._rng, content) as reader:
                if not reader.was_hit:
                    return False
                mark = len(self._node.log)
                told = await act()
                if told is not None:
                    await self._node.wait_log(told, since=mark, within_s=_FOUND_S)
                    found = reader.must_be_cut = True
        return found

    async def healed(self) -> None:
        """All is said and given rightly from now on, but for what the liar has.

        Catalogues that stated the lie have struck the origin, which is an administrator's to lift when they are mended.
        """
        for content in self._contents:
            content.say(content.right, self._now_s())
            self.manifest_of(content, self.origin, content.right, "right")
            self.manifest_of(content, self.liar, content.lie, "right")
        await self.publish()
        for host in {content.host for content in self._contents}:
            await self.post("/api/v1/bans/lift", {"source": f"http://{host}:80"})
        missing: dict[str, str] = {}

        async def all_right() -> bool:
            for content in self._contents:
                missing.setdefault(content.path, "no answer in time")
                if await self._asking.warm(content) == content.right:
                    del missing[content.path]
                else:
                    missing[content.path] = self._asking.last
            return not missing

        try:
            await eventually(all_right)
        except TimeoutError:
            raise NodeFailed(f"these do not come: {missing}") from None


def _id_of(content: Spoken) -> str:
    service = Service(name=content.host.partition(".")[0], hosts=(content.host,), own=True, scheme="http")
    return object_id(cache_key(service, "http", content.host, 80, canonical_target(content.path)))


def _inverted(file: Path, at: int) -> bool:
    """Invert one byte of an object file; False where there is none. Blocking."""
    try:
        with file.open("r+b") as opened:
            opened.seek(at)
            byte = opened.read(1)
            opened.seek(at)
            opened.write(bytes([byte[0] ^ 0xFF]))
    except FileNotFoundError:
        return False
    return True
