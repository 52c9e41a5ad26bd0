"""What one address that floods the node does to the clients beside it: empty lines, endless heads, pipelines, hellos.

Owns: the floods, threads' work in this process. Attacker and victims share the core of the clients, so that the node
has its own; the victims' times hold what that costs them, too.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from bench import hits
from bench.content import object_path
from bench.lab import AUTHORITY, Lab
from bench.load_drivers import tls_context
from bench.nginx import start_file_origin
from bench.node import tls_settings, with_settings
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, STATIC, Kind, Running, running

SOURCE = "127.0.0.99"
HELLOS_PER_S = 200
_BLOCK_BYTES = 1 << 16
_CASE = hits.CASES[1]


@dataclass(frozen=True, slots=True)
class NeighboursPlan(hits.HitsPlan):
    """Victims ask for 64 KiB ranges, ``runs`` times without each flood and with it, of each number of connections."""

    runs: int = 5
    seconds: float = 1.5
    objects: int = 1
    connections: int = 4
    flooding: tuple[int, ...] = (1, 16)


QUICK = NeighboursPlan(runs=1, seconds=0.2, warmup_s=0.05, flooding=(1,))


def _empty_lines(_path: str) -> bytes:
    return b"\r\n" * (_BLOCK_BYTES // 2)


def _half_heads(_path: str) -> bytes:
    return b"GET /half HTTP/1.1\r\nX-A: " + b"a" * _BLOCK_BYTES


def _huge_heads(path: str) -> bytes:
    line = f"X-A: {'a' * 4000}\r\n"
    return f"GET {path} HTTP/1.1\r\nHost: {AUTHORITY}\r\n{line * 12}\r\n".encode()


def _pipelines(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {AUTHORITY}\r\nRange: bytes=0-0\r\n\r\n".encode() * 400


FLOODS: dict[str, Callable[[str], bytes]] = {
    "empty lines": _empty_lines,
    "heads without end": _half_heads,
    "huge heads": _huge_heads,
    "pipelines": _pipelines,
}
HELLOS = f"TLS hellos, {HELLOS_PER_S}/s"


class Flood:
    """Connections of one address that send a block as fast as it is taken, and throw away what they get."""

    def __init__(self, port: int, connections: int, block: bytes) -> None:
        self.sent_bytes = 0
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._flood, args=(port, block), name="flood") for _ in range(connections)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _flood(self, port: int, block: bytes) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5, (SOURCE, 0)) as sock:
                self._send(sock, block)
            self._ending.wait(0.001)

    def _send(self, sock: socket.socket, block: bytes) -> None:
        sock.setblocking(False)
        at = 0
        while not self._ending.is_set():
            can_read, can_write, _ = select.select([sock], [sock], [], 0.2)
            if can_read and not sock.recv(_BLOCK_BYTES):
                return
            if can_write:
                sent = sock.send(memoryview(block)[at:])
                self.sent_bytes += sent
                at = (at + sent) % len(block)


class Hellos(Flood):
    """TLS handshakes that are begun, so many a second."""

    def __init__(self, port: int, connections: int) -> None:
        super().__init__(port, connections, b"")
        self._pause_s = connections / HELLOS_PER_S

    def _flood(self, port: int, block: bytes) -> None:
        context = tls_context()
        while not self._ending.wait(self._pause_s):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5, (SOURCE, 0)) as sock:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                with contextlib.suppress(ssl.SSLWantReadError):
                    context.wrap_bio(incoming, outgoing, server_hostname="x").do_handshake()
                self.sent_bytes += sock.send(outgoing.read())


def run_neighbours(lab: Lab, kinds: Sequence[Kind], plan: NeighboursPlan) -> dict[str, Any]:
    """Measure the node and static nginx beside each flood; plain data."""
    chosen = with_settings([kind for kind in kinds if kind.name in (NODE, STATIC)], tls_settings(lab))
    targets = lab.write_objects(plan.objects, plan.object_bytes)
    origin = start_file_origin(lab)
    rows = []
    for kind in chosen:
        with running(kind, lab, origin.port) as server:
            hits.warm(lab, server, plan)
            rows += _beside_all(lab, server, targets, plan)
    return outcome("neighbours", plan, rows, tables=[_table(rows)], measures=as_facts(_measures(rows)))


def _beside_all(lab: Lab, server: Running, targets: Sequence[str], plan: NeighboursPlan) -> list[dict[str, Any]]:
    path, rows = object_path(0, plan.object_bytes), []
    for connections in plan.flooding:
        floods = {name: Flood(server.port, connections, block(path)) for name, block in FLOODS.items()}
        if server.tls_port is not None:
            floods[HELLOS] = Hellos(server.tls_port, connections)
        for name, flood in floods.items():
            rows.append(_beside(lab, server, targets, plan, flood) | {"flood": name, "connections": connections})
    return rows


def _beside(lab: Lab, server: Running, targets: Sequence[str], plan: NeighboursPlan, flood: Flood) -> dict[str, Any]:
    quiet_ms = hits.p99_ms(lab, server, targets, _CASE, plan)
    began_s = time.monotonic()
    with flood:
        beside_ms = hits.p99_ms(lab, server, targets, _CASE, plan)
    rate = flood.sent_bytes / (time.monotonic() - began_s) / 1e6
    return {"server": server.name, "p99_quiet_ms": quiet_ms, "p99_beside_ms": beside_ms, "sent_mb_s": rate}


def _measures(rows: Sequence[dict[str, Any]]) -> list[Row]:
    peers = {(row["flood"], row["connections"]): row for row in rows if row["server"] == STATIC}
    made = []
    for row in rows:
        if row["server"] != NODE:
            continue
        peer = peers.get((row["flood"], row["connections"]))
        name = f"{row['flood']} on {row['connections']} connections: p99 of others"
        bar = max(5.0, 3 * row["p99_quiet_ms"])
        made.append(
            at_most(name, row["p99_beside_ms"], bar, unit="ms", mine=_slower(row),
                    peer=f"{STATIC} {_slower(peer)}" if peer else "")
        )  # fmt: skip
    return made


def _slower(row: dict[str, Any]) -> str:
    return f"{row['p99_quiet_ms']:.2f} → {row['p99_beside_ms']:.2f} ms"


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    heads = ("server", "flood", "connections", "p99 of others", "sent")
    lines = tuple(
        (row["server"], row["flood"], str(row["connections"]), _slower(row), f"{row['sent_mb_s']:.1f} MB/s")
        for row in rows
    )
    return Table("Neighbours: warm clients beside one address that floods", heads, lines)
