"""What the owner believes of one worker: lent objects are its own again only when nobody can send them any more."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cacheserver.store.store import Store
from cacheserver.store.stored_object import StoredObject
from cacheserver.web.heads import HitLines
from cacheserver.web.hot_table import HotEntry, Label
from cacheserver.workers import messages
from cacheserver.workers.channel import Channel, socket_pair
from cacheserver.workers.peer import Peer
from tests.support.flow import eventually
from tests.support.stored import put, representation, running_store

LINES = HitLines(kept=b"", lifetime_s=float("inf"), age_on_arrival_s=0.0, arrived_s=0.0, trust=0)
LABEL = Label("own", "host", "a.test", "/", None)


@dataclass(slots=True)
class Scene:
    """A peer, the far end of its channel, and what each has got."""

    peer: Peer
    far: Channel
    store: Store
    told: list[messages.ToWorker] = field(default_factory=list)
    handed_back: list[bytes] = field(default_factory=list)

    def say(self, message: messages.ToOwner, fd: int = -1) -> None:
        assert self.far.send(messages.encode(message), fd)

    def teach(self, obj: StoredObject, shape: bytes) -> None:
        entry = HotEntry(obj, obj.representation, obj.pieces.length_bytes, LABEL, 1e9, LINES)
        assert self.peer.teach(shape, obj, entry)

    async def told_of(self, kind: type, count: int = 1) -> None:
        async def there() -> bool:
            return sum(isinstance(message, kind) for message in self.told) >= count

        await eventually(there)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    ours, theirs = socket_pair()
    told: list[messages.ToWorker] = []
    handed_back: list[bytes] = []

    def hear(data: memoryview, fd: int) -> None:
        told.append(messages.to_worker.decode(data))
        if fd >= 0:
            os.close(fd)

    def take_back(fd: int, first: bytes) -> None:
        os.close(fd)
        handed_back.append(first)

    peer = Peer(
        ours,
        on_hello=lambda _peer: None,
        on_hand_back=take_back,
        on_report=lambda *_report: None,
        on_log_lines=lambda *_lines: None,
    )
    far = Channel(theirs, on_message=hear, on_lost=lambda: None)
    async with running_store(tmp_path) as store:
        yield Scene(peer, far, store, told, handed_back)
        peer.close()
        far.close()


async def test_what_a_lost_worker_was_lent_is_kept_by_it_until_its_process_has_ended(scene: Scene) -> None:
    lent, leaving = [await put(scene.store, representation(name)) for name in ("lent", "leaving")]
    scene.teach(lent, b"one")
    scene.teach(leaving, b"two")
    scene.peer.withdraw(leaving, cut=False)
    scene.peer.close()
    assert scene.peer.lost.is_set()
    assert scene.peer.keeps(lent.object_id)
    assert scene.peer.keeps(leaving.object_id)
    replies = scene.peer.replies(lent.object_id)
    assert [reply.done() for reply in replies] == [False]
    scene.peer.ended()
    assert [reply.done() for reply in replies] == [True]
    assert not scene.peer.keeps(lent.object_id)


async def test_a_withdrawal_that_cannot_be_said_counts_as_kept(scene: Scene) -> None:
    obj = await put(scene.store, representation("lent"))
    scene.teach(obj, b"one")
    scene.far.close()
    scene.peer.withdraw(obj, cut=False)
    assert scene.peer.lost.is_set(), "whoever cannot be told that an object is withdrawn is given up"
    assert scene.peer.keeps(obj.object_id)


async def test_the_parts_of_a_long_beginning_come_with_their_connection_and_no_other(scene: Scene) -> None:
    one, other = socket.socketpair()
    with one, other:
        scene.say(messages.Early(b"lost"))
        scene.say(messages.HandBack(b""))
        scene.say(messages.Early(b"first "))
        scene.say(messages.Early(b"second "))
        scene.say(messages.HandBack(b"third"), one.fileno())
        scene.say(messages.HandBack(b"alone"), one.fileno())

        async def there() -> bool:
            return len(scene.handed_back) == 2

        await eventually(there)
    assert scene.handed_back == [b"first second third", b"alone"]
    assert scene.peer.connections == -3, "each counts as one that has left"


async def test_shapes_of_withdrawn_objects_do_not_count(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheserver.workers.peer.MAX_ENTRIES", 4)
    for number in range(3):
        obj = await put(scene.store, representation(f"n{number}"))
        for shape in range(3):
            scene.teach(obj, hashlib.sha256(bytes((number, shape))).digest())
        scene.peer.withdraw(obj, cut=False)
    await scene.told_of(messages.Withdraw, 3)
    assert not any(isinstance(message, messages.Clear) for message in scene.told)


async def test_a_worker_that_says_nothing_is_seen_to_be_silent_until_it_speaks(scene: Scene) -> None:
    for _ in range(3):
        scene.peer.nudge()
    assert scene.peer.silent_turns == 3
    scene.say(messages.LogLines(b"", 0))

    async def heard() -> bool:
        return scene.peer.silent_turns == 0

    async with asyncio.timeout(5):
        await eventually(heard)
