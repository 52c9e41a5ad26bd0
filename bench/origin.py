"""The origin for cold content: slow in known ways, and it counts what it gave.

Owns: a delay before each body, a rate per connection, a rate over all connections (a WAN link), and a record per path
of requests, body bytes, bytes given more than once and the moment of the first body byte (``time.monotonic``). The
piece-hash file of an object lies at its path with ``.phf`` behind it; it is not counted, and made once.
Content is ``bench.content``'s. A process of its own: ``python -m bench.origin --stream FILE …`` prints its port as
JSON on standard output. ``GET /_stats`` gives the record as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from bench.content import Truth, parse_path

CHUNK_BYTES = 16 << 10
CATCH_UP_S = 0.01
MANIFEST_SUFFIX = ".phf"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Link:
    """A line of a given rate: bytes that enter it leave in turn. A rate of 0 has no limit."""

    def __init__(self, rate_bps: float) -> None:
        self._bytes_per_s = rate_bps / 8
        self._free_at = 0.0
        self._users = 0

    def __enter__(self) -> Self:
        # A line that nobody used has saved up nothing: only late wake-ups are made up for.
        if not self._users:
            self._free_at = max(self._free_at, time.monotonic())
        self._users += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._users -= 1

    async def carry(self, count_bytes: int) -> None:
        """Return when these bytes have left the line; time lost to late wake-ups is caught up within 10 ms."""
        if not self._bytes_per_s:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - CATCH_UP_S) + count_bytes / self._bytes_per_s
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


@dataclass(slots=True)
class PathRecord:
    """What the origin gave of one path."""

    requests: int = 0
    body_bytes: int = 0
    duplicate_bytes: int = 0
    first_byte_at: float = 0.0
    spans: list[list[int]] = field(default_factory=list)
    """Half-open spans given so far, merged and ascending."""

    def gave(self, start: int, stop: int) -> None:
        """Count bytes ``[start, stop)``, those given before as duplicates as well."""
        self.body_bytes += stop - start
        self.duplicate_bytes += sum(max(0, min(stop, b) - max(start, a)) for a, b in self.spans)
        merged = [[start, stop]]
        for span in self.spans:
            if span[1] < merged[0][0] or span[0] > merged[0][1]:
                merged.append(span)
            else:
                merged[0] = [min(span[0], merged[0][0]), max(span[1], merged[0][1])]
        self.spans = sorted(merged)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the origin needs of a request's head."""

    method: str
    path: str
    fields: dict[str, str]


def parse_head(head: bytes) -> Asked:
    """The request line and fields; ValueError for anything that is not HTTP/1."""
    line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _version = line.split(" ")
    fields = {}
    for entry in lines:
        if entry:
            name, _colon, value = entry.partition(":")
            fields[name.strip().lower()] = value.strip()
    return Asked(method, target.partition("?")[0], fields)


class Origin:
    """Serves every object of ``bench.content`` at the given delay and rates (bits per second, 0: no limit)."""

    def __init__(self, truth: Truth, *, delay_s: float, connection_bps: float, total_bps: float) -> None:
        self.records: dict[str, PathRecord] = {}
        self._truth = truth
        self._delay_s = delay_s
        self._connection_bps = connection_bps
        self._total = Link(total_bps)
        self._manifests: dict[str, bytes] = {}

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it closes."""
        line = Link(self._connection_bps)
        try:
            while True:
                asked = parse_head(await reader.readuntil(b"\r\n\r\n"))
                await self._answer(asked, writer, line)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter, line: Link) -> None:
        if asked.path == "/_stats":
            body = json.dumps({path: asdict(record) for path, record in self.records.items()}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        parsed = parse_path(asked.path.removesuffix(MANIFEST_SUFFIX))
        if parsed is None or parsed[1] > self._truth.longest_bytes:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        number, length = parsed
        if asked.path.endswith(MANIFEST_SUFFIX):
            body = self._manifests.get(asked.path) or self._truth.manifest(number, length)
            self._manifests[asked.path] = body
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        record = self.records.setdefault(asked.path, PathRecord())
        record.requests += 1
        etag = f'"{number}-{length}"'
        start, stop = asked_span(asked, length, etag)
        await asyncio.sleep(self._delay_s)
        writer.write(answer_head(start, stop, length, etag, partial="range" in asked.fields and stop > 0))
        if asked.method != "HEAD":
            await self._send(number, record, start, stop, writer, line)

    async def _send(
        self, number: int, record: PathRecord, start: int, stop: int, writer: asyncio.StreamWriter, line: Link
    ) -> None:
        with line, self._total:
            for at in range(start, stop, CHUNK_BYTES):
                end = min(at + CHUNK_BYTES, stop)
                await line.carry(end - at)
                await self._total.carry(end - at)
                record.first_byte_at = record.first_byte_at or time.monotonic()
                writer.write(self._truth.read(number, at, end))
                await writer.drain()
                record.gave(at, end)


def asked_span(asked: Asked, length: int, etag: str) -> tuple[int, int]:
    """The half-open span to send: the whole object unless one plain range was asked for this very version."""
    match = _RANGE.fullmatch(asked.fields.get("range", ""))
    if match is None or int(match[1]) >= length or asked.fields.get("if-range", etag) != etag:
        asked.fields.pop("range", None)
        return 0, length
    return int(match[1]), min(int(match[2]) + 1, length) if match[2] else length


def answer_head(start: int, stop: int, length: int, etag: str, *, partial: bool) -> bytes:
    """The head of a 206 or 200."""
    lines = ["HTTP/1.1 206 Partial Content", f"Content-Range: bytes {start}-{stop - 1}/{length}"]
    lines = (lines if partial else ["HTTP/1.1 200 OK"]) + [
        f"Content-Length: {stop - start}",
        "Content-Type: application/octet-stream",
        "Accept-Ranges: bytes",
        "Cache-Control: public, max-age=604800",
        "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT",
        "Date: " + time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        f"ETag: {etag}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def serve(options: argparse.Namespace) -> None:
    """Listen on a loopback port, print it, serve until ended."""
    origin = Origin(
        Truth(options.stream),
        delay_s=options.delay_ms / 1000,
        connection_bps=options.connection_mbps * 1e6,
        total_bps=options.total_mbps * 1e6,
    )
    server = await asyncio.start_server(origin.serve_connection, options.address, options.port, backlog=512)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


def main(argv: list[str]) -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.origin", description=__doc__)
    parser.add_argument("--stream", type=Path, required=True, help="file written by bench.content.write_stream")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="delay before each answer")
    parser.add_argument("--connection-mbps", type=float, default=0.0, help="rate of one connection, 10^6 bit/s")
    parser.add_argument("--total-mbps", type=float, default=0.0, help="rate of all connections together")
    asyncio.run(serve(parser.parse_args(argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
