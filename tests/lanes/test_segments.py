"""Large answers in whole segments: nothing of them is left behind in the kernel, and the next answer is not held up."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cacheserver.web.sending.tcp import paces
from tests.support.lanes import SPANS, TURN, LaneScene, body_of, lane_scene, stuck


def corked(scene: LaneScene) -> bool:
    """Whether the kernel keeps part segments of the only connection back."""
    return bool(scene.lane()._sender._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


@pytest.mark.parametrize("corks", [True, False])
async def test_every_answer_ends_with_nothing_kept_back(tmp_path: Path, corks: bool) -> None:
    async with lane_scene(tmp_path, tls=False, turn_bytes=TURN, send_buffer=1 << 16) as scene:
        scene.lanes.corks = corks
        async with scene.client() as client:
            for span in (*SPANS, None):
                await client.send(scene.request(span))
                assert (await client.receive()).body == body_of(span), span
                assert not corked(scene), span
    assert scene.full == []


@pytest.mark.parametrize("corks", [True, False])
async def test_part_segments_are_kept_back_while_more_is_to_come(tmp_path: Path, corks: bool) -> None:
    async with lane_scene(tmp_path, tls=False, turn_bytes=TURN, send_buffer=1 << 16) as scene:
        scene.lanes.corks = corks
        async with scene.client(receive_buffer=4096) as client:
            await client.send(scene.request())
            await stuck(scene)
            assert corked(scene) is corks
            assert (await client.receive()).body == body_of(None)
            assert not corked(scene)


def test_whether_tcp_paces_is_what_the_machine_says() -> None:
    setting = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    if not setting.exists():
        pytest.skip("the kernel does not say which congestion control new connections have")
    assert paces() is setting.read_text().startswith("bbr")
