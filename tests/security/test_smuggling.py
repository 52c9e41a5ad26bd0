"""One answer per request that was meant, and the connection ends behind a malformed one, however the bytes arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.security.raw import exchange
from tests.support.ground import HOST, Ground, GroundOptions, running_ground

_AT_ONCE = 16
_REFUSED = frozenset({400, 403, 405, 413})


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes, the statuses that a right server gives for them, and whether it closes behind the last one.

    A status of 0 stands for any refusal; ``fewer``: the answers behind the first refusal may be missing.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...]
    closes: bool = True


def cases(path: str) -> list[Case]:
    """Every case for a ``path`` that is served with 200."""
    p, h = path.encode(), HOST.encode()
    get = b"GET %s HTTP/1.1\r\nHost: %s\r\n" % (p, h)
    good = get + b"\r\n"
    hidden = b"GET /admin HTTP/1.1\r\nHost: smuggled.example\r\n\r\n"

    def with_lines(lines: bytes, body: bytes = b"") -> bytes:
        return get + lines + b"\r\n\r\n" + body

    return [
        Case("plain", good, (200,), closes=False),
        Case("three in a row", good * 3, (200, 200, 200), closes=False),
        Case("an empty line before it", b"\r\n" + good, (200,), closes=False),
        Case("length and chunked", with_lines(b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + hidden), (0,)),
        Case("chunked and length", with_lines(b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"0\r\n\r\n" + hidden), (0,)),
        Case("two lengths", with_lines(b"Content-Length: 0\r\nContent-Length: 40", hidden), (0,)),
        Case("two equal lengths", with_lines(b"Content-Length: 49\r\nContent-Length: 49", hidden), (0,)),
        Case("a list of lengths", with_lines(b"Content-Length: 0, 49", hidden), (0,)),
        Case("a length with a sign", with_lines(b"Content-Length: +49", hidden), (0,)),
        Case("a negative length", with_lines(b"Content-Length: -1", hidden), (0,)),
        Case("a hexadecimal length", with_lines(b"Content-Length: 0x31", hidden), (0,)),
        Case("a length of 30 digits", with_lines(b"Content-Length: " + b"9" * 30, hidden), (0,)),
        Case("a length of letters", with_lines(b"Content-Length: abc", hidden), (0,)),
        Case("a body of a known length", with_lines(b"Content-Length: %d" % len(hidden), hidden), (0,)),
        Case("chunked", with_lines(b"Transfer-Encoding: chunked", b"31\r\n" + hidden + b"\r\n0\r\n\r\n" + hidden), (0,)),
        Case("chunked with extensions", with_lines(b"Transfer-Encoding: chunked", b"0;a=\"\r\n\r\n" + hidden), (0,)),
        Case("chunked with a sign", with_lines(b"Transfer-Encoding: chunked", b"+0\r\n\r\n" + hidden), (0,)),
        Case("chunked with a hex prefix", with_lines(b"Transfer-Encoding: chunked", b"0x0\r\n\r\n" + hidden), (0,)),
        Case("chunked behind a tab", with_lines(b"Transfer-Encoding:\tchunked", b"0\r\n\r\n" + hidden), (0,)),
        Case("chunked behind vertical tab", with_lines(b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n" + hidden), (0,)),
        Case("chunked twice", with_lines(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n" + hidden), (0,)),
        Case("chunked, then identity", with_lines(b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n" + hidden), (0,)),
        Case("an unknown coding", with_lines(b"Transfer-Encoding: xchunked", b"0\r\n\r\n" + hidden), (0,)),
        Case("two coding lines", with_lines(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", hidden), (0,)),
        Case("a blank before the colon", with_lines(b"Transfer-Encoding : chunked", b"0\r\n\r\n" + hidden), (0,)),
        Case("a blank before the name", with_lines(b" Transfer-Encoding: chunked", b"0\r\n\r\n" + hidden), (0,)),
        Case("a folded line", with_lines(b"X-A: 1\r\n Transfer-Encoding: chunked", hidden), (0,)),
        Case("a folded line by tab", with_lines(b"X-A: 1\r\n\tb", hidden), (0,)),
        Case("a folded Host", b"GET %s HTTP/1.1\r\nHost:\r\n %s\r\n\r\n" % (p, h), (0,)),
        Case("a line without colon", with_lines(b"no colon here"), (0,)),
        Case("an empty field name", with_lines(b": value"), (0,)),
        Case("a control character in a name", with_lines(b"X-\x01A: 1"), (0,)),
        Case("NUL in a value", with_lines(b"X-A: a\x00b"), (0,)),
        Case("a bare CR in a value", with_lines(b"X-A: a\rTransfer-Encoding: chunked"), (0,)),
        Case("bare LF behind a field", b"GET %s HTTP/1.1\r\nHost: %s\nX-A: 1\r\n\r\n" % (p, h), (0,)),
        Case("bare LF everywhere", b"GET %s HTTP/1.1\nHost: %s\n\n" % (p, h) + hidden, (0,)),
        Case("CR CR LF", b"GET %s HTTP/1.1\r\nHost: %s\r\r\n\r\n" % (p, h), (0,)),
        Case("two Host lines", with_lines(b"Host: %s" % h, hidden), (0,)),
        Case("two different Host lines", with_lines(b"Host: smuggled.example", hidden), (0,)),
        Case("no Host line", b"GET %s HTTP/1.1\r\n\r\n" % p, (0,)),
        Case("an empty Host", b"GET %s HTTP/1.1\r\nHost:\r\n\r\n" % p, (0,)),
        Case("Host with user information", b"GET %s HTTP/1.1\r\nHost: a@%s\r\n\r\n" % (p, h), (0,)),
        Case("Host as a list", b"GET %s HTTP/1.1\r\nHost: %s, %s\r\n\r\n" % (p, h, h), (0,)),
        Case("no version", b"GET %s\r\n\r\n" % p, (0,)),
        Case("version 2.0", b"GET %s HTTP/2.0\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("version 1.10", b"GET %s HTTP/1.10\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("version with a sign", b"GET %s HTTP/+1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("lower-case version", b"GET %s http/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (0,)),
        # RFC 9112 §3 allows to be lenient here, and there is only one way to read it.
        Case("two blanks in the request line", b"GET  %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (200,), closes=False),
        Case("a tab in the request line", b"GET\t%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a target with a blank", b"GET %s x HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a target with NUL", b"GET %s\x00 HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a target with raw bytes", b"GET %s\xff\xfe HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a method that nobody knows", b"FOO %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("a lower-case method", b"get %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (p, h), (0,)),
        Case("POST with a hidden request", b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 49\r\n\r\n" % (p, h) + hidden, (0,)),
        Case("binary", bytes(range(256)), (0,)),
        Case("the beginning of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", (0,)),
        Case("good, then malformed", good + b"GET / HTTP/1.1\r\nbad line\r\n\r\n" + good, (200, 0)),
        Case("twice good, then two lengths", good * 2 + with_lines(b"Content-Length: 1\r\nContent-Length: 2"), (200, 200, 0)),
        Case("good, then a body", good + with_lines(b"Content-Length: 49", hidden) + good, (200, 0)),
        Case("an upgrade that is declined", with_lines(b"Connection: Upgrade\r\nUpgrade: websocket") + good, (200, 200), closes=False),
        Case("an upgrade to h2c", with_lines(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA"), (200,), closes=False),
        Case("CONNECT, then a request", b"CONNECT %s:80 HTTP/1.1\r\nHost: %s\r\n\r\n" % (h, h) + hidden, (0,)),
        Case("Expect: 100-continue", with_lines(b"Expect: 100-continue"), (200,), closes=False),
        Case("Connection: close, then more", with_lines(b"Connection: close") + good, (200,)),
        Case("HTTP/1.0, then more", b"GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % (p, h) + good, (200,)),
        Case("a huge request line", b"GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (b"a" * 70_000, h), (0,)),
        Case("a huge field", with_lines(b"X-A: " + b"a" * 70_000), (0,)),
        Case("a flood of fields", with_lines(b"\r\n".join(b"X-%d: %d" % (n, n) for n in range(20_000))), (0,)),
    ]  # fmt: skip


def fault_of(case: Case, statuses: tuple[int, ...], closed: bool) -> str | None:
    """What is wrong with an outcome, None where nothing is."""
    right = len(statuses) == len(case.statuses) and all(
        got in _REFUSED or got == 431 if want == 0 else got == want
        for got, want in zip(statuses, case.statuses, strict=True)
    )
    if not right:
        return f"{case.name}: {statuses} instead of {case.statuses}"
    if case.closes != closed and 403 not in statuses[-1:]:
        return f"{case.name}: {'stays open' if case.closes else 'closes'} behind {statuses}"
    return None


async def attack(ground: Ground, path: str, every: int) -> tuple[int, list[str]]:
    """Send every case in one part and split at every ``every``-th byte; how many were sent, and what was wrong."""
    room = asyncio.Semaphore(_AT_ONCE)
    faults: list[str] = []
    sent = 0

    async def send(case: Case, *parts: bytes) -> None:
        nonlocal sent
        async with room:
            try:
                outcome = await exchange(ground.node.content, parts)
            except (TimeoutError, AssertionError) as error:
                faults.append(f"{case.name}: split {[len(part) for part in parts]}: {error!r}")
                return
        sent += 1
        fault = fault_of(case, outcome.statuses, outcome.closed)
        if fault is not None:
            faults.append(f"{fault}, split {[len(part) for part in parts]}")

    sendings = []
    for number, case in enumerate(cases(path)):
        sendings.append(send(case, case.data))
        if len(case.data) < 2000:
            cuts = range(1 + number % every, len(case.data), every)
            sendings += [send(case, case.data[:cut], case.data[cut:]) for cut in cuts]
    await asyncio.gather(*sendings)
    return sent, faults


async def measure(scene: Scene) -> Figure:
    """Everything against a node with the fast lane and one without."""
    total, faults = 0, []
    for lane in ("true", "false"):
        options = GroundOptions(config=f"[server]\nfast_lane = {lane}\n")
        async with running_ground(scene.room(f"lane-{lane}"), options) as ground:
            path = ground.add(b"the one right body")
            for _ in range(2):
                assert (await ground.get(path)).status == 200
            sent, found = await attack(ground, path, scene.size(1, 11))
            total += sent
            faults += [f"lane {lane}: {fault}" for fault in found]
            asked = {record.target for record in ground.origin.requests}
            faults += [f"lane {lane}: went upstream: {target}" for target in asked - {path}]
    text = (
        f"{total} sendings of {len(cases('/'))} heads, lane on and off: {len(faults)} wrong answers, counts or endings"
    )
    return Figure(text, faults)


ROW = Row(
    "smuggling and malformed heads, split at every byte",
    "one answer per meant request; closed after a 400; lane on and off",
    measure,
)


@pytest.mark.timeout(180)
async def test_every_meant_request_gets_one_answer_and_a_malformed_one_ends_the_connection(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
