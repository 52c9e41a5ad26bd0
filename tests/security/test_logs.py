"""Whatever clients send, the log stays lines of clean JSON, and a flood of nonsense does not flood it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, Ground, GroundOptions, running_ground

_HOSTILE = (
    b'\r\n{"event":"forged"}', b"\\r\\n", b"%0d%0a%7b%22event%22%3a%22forged%22%7d", b"\x1b[2J",
    b'","status":200,"x":"',
    b"\x1b]0;title\x07", b"\x00", b"\x7f", b"\x08\x08\x08", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\xff\xfe",
    b"\xef\xbf\xbe",
    b"\xc2\x9b31m", b"\xed\xa0\x80", b"%s%n%d", b"{0.__class__}", b"${jndi:x}", b"\t\t", b"a" * 5000, b"<script>",
    b"'; DROP",
)  # fmt: skip


def heads(number: int) -> bytes:
    """A malformed or hostile head: each place of a head in turn, each hostile text in turn."""
    text = _HOSTILE[number % len(_HOSTILE)]
    place = number // len(_HOSTILE) % 7
    host = HOST.encode()
    return (
        b"GET /x%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (text, host),
        b"GET /x HTTP/1.1\r\nHost: %s%s\r\n\r\n" % (host, text),
        b"GET /x HTTP/1.1\r\nHost: %s\r\nUser-Agent: a%s\r\nRange: bytes=%s\r\nHost: b\r\n\r\n" % (host, text, text),
        b"%s /x HTTP/1.1\r\nHost: %s\r\n\r\n" % (text, host),
        b"GET /x?cacheHostOrigin=%s HTTP/1.1\r\nHost: n\r\n\r\n" % text,
        b"GET http://%s/ HTTP/1.1\r\nHost: n\r\n\r\n" % text,
        b"GET /../%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (text, host),
    )[place]


async def flood(ground: Ground, requests: int) -> int:
    """Send that many, each on a connection of its own; how many were answered."""
    answered = 0
    for number in range(requests):
        try:
            async with RawClient(*ground.node.content, timeout_s=5.0) as client:
                await client.send(heads(number))
                answered += (await client.receive_head()).status in (400, 403, 405)
        except OSError:
            continue
    return answered


async def measure(scene: Scene) -> Figure:
    """A flood, then what the log holds; ``running_ground`` itself insists on clean JSON lines at its end."""
    requests = scene.size(10_000, 1500)
    async with running_ground(scene.room("node"), GroundOptions()) as ground:
        path = ground.add(blob(1, 100))
        before = len(ground.node.log)
        answered = await flood(ground, requests)
        agent = "Mozilla \u202e\u2066 \x9b31m".encode().decode("latin-1")
        assert (await ground.get(path, ("User-Agent", agent))).status == 200
        (line,) = await ground.node.wait_answered(path)
        lines = ground.node.log[before:]
        faults = [f"a forged line: {entry}" for entry in lines if entry.get("event") == "forged"]
        faults += [f"raw characters: {entry}" for entry in lines if not json.dumps(entry, ensure_ascii=True).isascii()]
        faults += [f"bytes of {len(str(entry))}: {str(entry)[:80]}" for entry in lines if len(str(entry)) > 4096]
        if ground.node.stray:
            faults.append(f"lines that are not clean JSON: {ground.node.stray[:3]}")
        if len(lines) > 1000:
            faults.append(f"{len(lines)} lines")
        refused = (await ground.node.metrics()).total("cacheserver_refused_total")
        if refused < answered:
            faults.append(f"{refused} refusals counted, {answered} given")
    return Figure(
        f"{requests} malformed requests: {len(lines)} log lines, all clean JSON, {len(line)} members each", faults
    )


ROW = Row(
    "log forging, control and bidi characters, a flood of malformed requests", "JSON lines, <= 1,000 of them", measure
)


@pytest.mark.timeout(120)
async def test_the_log_stays_clean_and_short(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
