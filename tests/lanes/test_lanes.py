"""The fast lane on real connections, without TLS and with it: the same promises for both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cacheserver.core.piece_map import ABSENT
from cacheserver.core.request.client import PLAIN, TLS
from cacheserver.web.lane import lane as room
from cacheserver.web.lane.hot_table import shape_of
from cacheserver.web.lane.lane import FastLane
from cacheserver.web.lane.senders import Outgoing, PlainSender, SecureSender, Sender
from cacheserver.web.sending.turns import Turns
from tests.support.client import ConnectionEnded, RawClient
from tests.support.flow import eventually
from tests.support.lanes import BODY, PIECE, SPANS, TURN, LaneScene, body_of, lane_scene, stuck


@pytest.fixture(params=[PLAIN, TLS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def scene(tmp_path: Path, kind: str) -> AsyncIterator[LaneScene]:
    async with lane_scene(tmp_path, tls=kind == TLS, turn_bytes=TURN, send_buffer=1 << 16) as scene:
        yield scene


async def released(scene: LaneScene) -> None:
    """Until nothing of the object is held."""

    async def nothing_held() -> bool:
        return scene.obj.held == 0

    await eventually(nothing_held)


async def test_every_span_is_answered_by_the_lane_exactly_and_counted_once(scene: LaneScene, kind: str) -> None:
    async with scene.client() as client:
        for count, span in enumerate([*SPANS, None], 1):
            await client.send(scene.request(span))
            response = await client.receive()
            assert response.body == body_of(span), span
            assert response.status == (200 if span is None else 206)
            assert len(scene.answered) == count
            told = scene.answered[-1]
            assert (told.status, told.body_bytes) == (response.status, len(response.body))
            assert told.range == (None if span is None else span.encode())
            assert told.client.listener == kind
    assert scene.full == []
    await released(scene)


async def test_pipelined_requests_are_answered_in_order(scene: LaneScene) -> None:
    spans = SPANS * 3
    async with scene.client() as client:
        await client.send(b"".join(scene.request(span) for span in spans))
        for span in spans:
            assert (await client.receive()).body == body_of(span), span
    assert scene.full == []
    assert len(scene.answered) == len(spans)


async def test_a_head_may_be_split_at_every_byte(scene: LaneScene, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = asyncio.Event()
    take = FastLane.take

    def taking(lane: FastLane, data: bytes) -> bool:
        arrived.set()
        return take(lane, data)

    monkeypatch.setattr(FastLane, "take", taking)
    head = scene.request("10-19")
    async with scene.client() as client:
        for at in range(1, len(head)):
            arrived.clear()
            await client.send(head[:at])
            await asyncio.wait_for(arrived.wait(), 5)
            await client.send(head[at:])
            assert (await client.receive()).body == b"full"
            await client.send(head)  # the connection comes back to the lane
            assert (await client.receive()).body == BODY[10:20]
    assert (len(scene.full), len(scene.answered)) == (len(head) - 1, len(head) - 1)


async def test_a_request_that_comes_before_the_framework_waits_again_is_the_lanes(scene: LaneScene) -> None:
    def send_early() -> None:
        connection = scene.connection()
        assert connection._waiter is None, "else this test is about a connection that waits"
        assert connection.is_answering
        connection.data_received(scene.request("0-9"))

    scene.after_answer.append(send_early)
    async with scene.client() as client:
        await client.send(b"GET /other HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert [(await client.receive()).body for _ in range(2)] == [b"full", BODY[:10]]
        await client.send(scene.request("10-19"))
        assert (await client.receive()).body == BODY[10:20]
    assert scene.full == ["/other"]
    assert len(scene.answered) == 2


async def test_an_early_request_after_the_last_answer_of_a_connection_is_not_answered(scene: LaneScene) -> None:
    scene.after_answer.append(lambda: scene.connection().data_received(scene.request()))
    async with scene.client() as client:
        await client.send(b"GET /last HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert (await client.receive()).body == b"full"
        assert await client.at_end()
    assert scene.answered == []


@pytest.mark.parametrize("change", ["purged", "evicted", "reloaded", "refreshed"])
async def test_what_changes_between_two_requests_goes_to_the_full_path(scene: LaneScene, change: str) -> None:
    async with scene.client() as client:
        await client.send(scene.request("0-9"))
        assert (await client.receive()).body == BODY[:10]
        if change == "purged":
            scene.obj.obsolete = True
        elif change == "evicted":
            scene.obj.pieces.mark(0, ABSENT)
        elif change == "reloaded":
            scene.lanes.table.clear()
        else:
            scene.obj.file.representation = object()
        await client.send(scene.request("0-9"))
        assert (await client.receive()).body == b"full"


async def test_what_was_learned_with_tls_says_nothing_of_plain_requests_nor_the_other_way(
    scene: LaneScene, kind: str
) -> None:
    table = scene.lanes.table
    shape, _ = shape_of(scene.request("0-9"))
    mine, others = (table.get_secure, table.get) if kind == TLS else (table.get, table.get_secure)
    entry = mine(shape)
    assert entry is not None
    assert others(shape) is None
    table.forget(scene.obj.as_stored())
    assert mine(shape) is None


async def test_a_client_that_takes_nothing_ties_up_little_and_is_cut_by_the_sweep(scene: LaneScene, kind: str) -> None:
    async with scene.client(receive_buffer=4096) as client:
        await client.send(scene.request())
        await stuck(scene)
        assert scene.lane()._sender.sent_bytes < 1 << 20
        scene.listener.sweep(30.0)
        scene.listener.sweep(30.0)
        await released(scene)
        assert not (await client.finish(await client.receive_head())).complete
    assert scene.answered[0].body_bytes < len(BODY)


async def test_half_a_head_behind_the_last_answer_is_not_waited_for(scene: LaneScene, kind: str) -> None:
    if kind == TLS:
        pytest.skip("TLS has no half-closed connections here")
    async with scene.client(receive_buffer=4096) as client:
        await client.send(scene.request())
        await stuck(scene)
        await client.send(scene.request()[:20])
        client.half_close()
        assert (await client.receive()).body == BODY
        async with asyncio.timeout(5):  # the deadline of a head is 10 s
            assert await client.at_end()


async def test_a_client_that_takes_enough_passes_the_sweep(scene: LaneScene) -> None:
    async with scene.client(receive_buffer=4096) as client:
        await client.send(scene.request())
        response = await client.receive_head()
        for size in range(200_000, len(BODY), 600_000):
            await client.read_body(response, size)
            scene.listener.sweep(30.0)
        assert (await client.finish(response)).body == BODY


async def test_a_client_is_judged_by_what_it_takes_of_what_the_kernel_holds_for_it(tmp_path: Path) -> None:
    async with (
        lane_scene(tmp_path, tls=False, send_buffer=1 << 20) as scene,
        scene.client(receive_buffer=4096) as client,
    ):
        await client.send(scene.request())
        response = await client.receive_head()
        await stuck(scene)
        sent = scene.lane()._sender.sent_bytes
        for size in (50_000, 100_000):
            scene.listener.sweep(20.0)
            await client.read_body(response, size)
        scene.listener.sweep(20.0)
        assert scene.lane()._sender.sent_bytes == sent, "the kernel held enough all the time"
        assert (await client.finish(response)).body == BODY


async def test_a_client_that_asks_on_without_reading_does_not_fill_the_memory(scene: LaneScene) -> None:
    async with scene.client(receive_buffer=4096) as client:
        sending = asyncio.ensure_future(client.send(scene.request("0-16000") * 2000))
        await stuck(scene)
        assert sum(answer.body_bytes for answer in scene.answered) < 2 << 20
        scene.lane()._transport.abort()
        await asyncio.gather(sending, return_exceptions=True)
    await released(scene)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_client_that_goes_in_the_middle_leaves_nothing_behind(
    scene: LaneScene, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    client: RawClient
    async with scene.client(receive_buffer=4096) as client:
        await client.send(scene.request())
        response = await client.receive_head()
        await client.read_body(response, 100_000)
        if how == "reset":
            client.abort()
    await released(scene)
    assert scene.answered[0].body_bytes < len(BODY)
    assert scene.listener.connection_count == 0 or await _all_gone(scene)
    assert [record.message for record in caplog.records] == []


async def _all_gone(scene: LaneScene) -> bool:
    async def gone() -> bool:
        return scene.listener.connection_count == 0

    await eventually(gone)
    return True


async def test_a_client_that_shuts_its_socket_under_tls_is_not_written_to_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with lane_scene(tmp_path, tls=True) as scene:
        async with scene.client() as client:
            await client.send(scene.request())
            sock: socket.socket = client._writer.get_extra_info("socket")
            shut = socket.socket(fileno=os.dup(sock.fileno()))
            shut.shutdown(socket.SHUT_WR)
            shut.close()
            with contextlib.suppress(ConnectionEnded):  # before anything came
                assert not (await client.receive()).complete
        await released(scene)
    assert scene.answered[0].body_bytes < len(BODY)
    assert [record.message for record in caplog.records] == []


async def test_a_piece_found_bad_between_two_turns_is_not_sent(scene: LaneScene, kind: str) -> None:
    async with scene.client(receive_buffer=4096) as client:
        await client.send(scene.request())
        await stuck(scene)
        running = scene.lane()._running
        assert running is not None
        sent = running.at
        scene.obj.pieces.mark(sent // PIECE + 2, ABSENT)
        response = await client.finish(await client.receive_head())
        assert not response.complete
        good = (sent // PIECE + 2) * PIECE
        assert response.body == BODY[: len(response.body)]
        assert len(response.body) <= good
    await released(scene)


async def test_clients_share_in_bounded_turns(scene: LaneScene, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[int, int]] = []
    kind_of_sender = SecureSender if kind == TLS else PlainSender
    send_turn = kind_of_sender.send_turn

    def sending(sender: Sender, left: Outgoing) -> None:
        before = sender.sent_bytes
        try:
            send_turn(sender, left)  # type: ignore[arg-type]
        finally:
            turns.append((id(sender), sender.sent_bytes - before))

    monkeypatch.setattr(kind_of_sender, "send_turn", sending)

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(scene.client()) for _ in range(8)]
        await asyncio.gather(*(client.send(scene.request()) for client in clients))
        answers = await asyncio.gather(*(client.receive() for client in clients))
        assert all(answer.body == BODY for answer in answers)
    assert max(sent for _, sent in turns) <= TURN
    lanes = [lane for lane, _ in turns]
    first_turns = [lanes.index(lane) for lane in set(lanes)]
    last_turns = [len(lanes) - 1 - lanes[::-1].index(lane) for lane in set(lanes)]
    assert len(first_turns) == 8
    assert max(first_turns) < min(last_turns), "nobody is done before everybody has had a turn"
    await released(scene)


async def test_the_full_path_gives_others_their_turn_too(scene: LaneScene, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    mine = Turns.mine

    def counted(turns: Turns) -> asyncio.Future[None]:
        nonlocal taken
        taken += 1
        return mine(turns)

    monkeypatch.setattr(Turns, "mine", counted)
    async with scene.client() as client:
        await client.send(b"GET /file HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert (await client.receive()).body == BODY
    assert taken >= len(BODY) // TURN - 1


async def test_cold_bytes_are_read_by_a_thread_first(scene: LaneScene, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int, bool]] = []

    def reading(_fd: int, start: int, stop: int) -> None:
        read.append((start, stop, threading.current_thread() is threading.main_thread()))

    monkeypatch.setattr(room, "resident", lambda _fd, _start, _stop: False)
    monkeypatch.setattr(room, "read_through", reading)
    async with scene.client() as client:
        await client.send(scene.request("0-999999"))
        assert (await client.receive()).body == BODY[:1_000_000]
    assert (read[0][0], read[-1][1]) == (0, 1_000_000)
    assert not any(in_loop for *_, in_loop in read)
    await released(scene)


async def test_a_file_that_is_too_short_is_a_cut_and_the_table_forgets_it(scene: LaneScene, tmp_path: Path) -> None:
    os.truncate(tmp_path / "body", 3_000_000)
    async with scene.client() as client:
        await client.send(scene.request("2000000-"))
        response = await client.finish(await client.receive_head())
        assert not response.complete
        assert response.body == BODY[2_000_000 : 2_000_000 + len(response.body)]
    assert len(scene.lanes.table) == 0
    await released(scene)
