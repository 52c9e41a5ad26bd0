"""Thousands of slow readers and idle connections: what they weigh, and what they do to the clients that are fast.

Owns: the crowd, which is threads' work in this process: it compares every byte that it reads with the truth. Its
connections come from several loopback addresses, as one address has too few ports for all of them in some settings.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from bench import hits, process
from bench.content import MIB, object_path
from bench.first_answer import compare_first
from bench.lab import AUTHORITY, Lab
from bench.nginx import start_file_origin
from bench.node import with_settings
from bench.report import Table, outcome
from bench.rows import Row, as_facts, at_most
from bench.servers import NODE, STATIC, Kind, Running, running

SOURCE_ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 10))
READ_BYTES = 4096
ROUND_S = 2.0
"""Each slow reader takes ``READ_BYTES`` once in this time: twice the lowest rate that the node allows."""
RECEIVE_BUFFER_BYTES = 8192
SPARE_DESCRIPTORS = 600
_CASE = hits.CASES[1]


@dataclass(frozen=True, slots=True)
class CrowdPlan(hits.HitsPlan):
    """How large the crowd is; its fast clients ask for 64 KiB ranges, ``runs`` times without it and with it."""

    slow: int = 2_000
    idle: int = 8_000
    runs: int = 3
    seconds: float = 2.0
    objects: int = 1


QUICK = CrowdPlan(slow=40, idle=60, runs=1, seconds=0.3, warmup_s=0.05, objects=1)


class Crowd:
    """Slow readers of one object and connections that have had one answer and wait."""

    def __init__(self, lab: Lab, server: Running, *, slow: int, idle: int, object_bytes: int) -> None:
        self.faults: list[str] = []
        self._truth = lab.truth
        self._port = server.port
        self._counts = slow, idle
        self._path = object_path(0, object_bytes)
        self._readers: list[_SlowReader] = []
        self._idle: list[socket.socket] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read_slowly, name="crowd")

    def __enter__(self) -> Self:
        slow, idle = self._counts
        with contextlib.ExitStack() as made:
            made.callback(self._close)
            head = f"GET {self._path} HTTP/1.1\r\nHost: {AUTHORITY}\r\n"
            for number in range(idle):
                sock = self._connect(number, 0)
                self._idle.append(sock)
                compare_first(sock, f"{head}Range: bytes=0-1023\r\n\r\n".encode(), self._truth)
                sock.setblocking(False)
            for number in range(slow):
                sock = self._connect(number, RECEIVE_BUFFER_BYTES)
                self._readers.append(_SlowReader(sock))
                sock.sendall(f"{head}\r\n".encode())
                sock.setblocking(False)
            self._thread.start()
            made.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._close()

    def left(self) -> int:
        """How many of all connections the server still keeps."""
        return sum(_open(sock) for sock in self._idle) + sum(not reader.fault for reader in self._readers)

    def _connect(self, number: int, buffer_bytes: int) -> socket.socket:
        sock = socket.socket()
        if buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.settimeout(20.0)
        sock.bind((SOURCE_ADDRESSES[number % len(SOURCE_ADDRESSES)], 0))
        sock.connect(("127.0.0.1", self._port))
        return sock

    def _read_slowly(self) -> None:
        """Every reader in turn, spread evenly over each round: many at once would be a burst that no crowd makes."""
        readers: list[_SlowReader | None] = [*self._readers] or [None]
        pause_s, due_s = ROUND_S / len(readers), time.monotonic()
        while not self._ending.is_set():
            for reader in readers:
                due_s += pause_s
                if self._ending.wait(max(0.0, due_s - time.monotonic())):
                    break
                if reader is not None:
                    reader.read(self._truth)
        self.faults = [reader.fault for reader in self._readers if reader.fault]

    def _close(self) -> None:
        for sock in (*self._idle, *(reader.sock for reader in self._readers)):
            sock.close()


class _SlowReader:
    """One connection that takes a little at a time; ``fault`` says what went wrong with it."""

    __slots__ = ("_at", "_head", "fault", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fault = ""
        self._head = b""
        self._at = -1

    def read(self, truth: Any) -> None:
        """Take what is there, up to ``READ_BYTES``, and compare it."""
        if self.fault:
            return
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.fault = str(error)
            return
        if not data:
            self.fault = f"closed at {self._at}"
        elif self._at < 0:
            self._head += data
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._at = 0
            if b" 200 " not in head[:16]:
                self.fault = head[:80].decode("latin-1")
        if data and not self.fault:
            if data != truth.read(0, self._at, self._at + len(data)):
                self.fault = f"wrong bytes at {self._at}"
            self._at += len(data)


def _open(sock: socket.socket) -> bool:
    """Whether the peer keeps an idle connection."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def run_crowd(lab: Lab, kinds: Sequence[Kind], plan: CrowdPlan) -> dict[str, Any]:
    """Measure the node and static nginx without the crowd and with it; plain data."""
    fitting, note = _fitting(plan)
    most = fitting.slow + fitting.idle + fitting.connections + 16
    settings = {"server": {"max_connections": most, "connections_per_client": most}}
    chosen = with_settings([kind for kind in kinds if kind.name in (NODE, STATIC)], settings)
    targets = lab.write_objects(plan.objects, plan.object_bytes)
    origin = start_file_origin(lab)
    rows = []
    for kind in chosen:
        with running(kind, lab, origin.port) as server:
            hits.warm(lab, server, fitting)
            rows.append(_measure(lab, server, targets, fitting))
    measures = as_facts(_measures(rows, fitting, note))
    return outcome("crowd", fitting, rows, tables=[_table(rows, fitting)], measures=measures)


def _fitting(plan: CrowdPlan) -> tuple[CrowdPlan, str]:
    """The plan made smaller where descriptors do not suffice, and what to say of it. A slow reader may cost two."""
    have = process.raise_descriptor_limit() - SPARE_DESCRIPTORS
    share = have / (2 * plan.slow + plan.idle)
    if share >= 1:
        return plan, ""
    smaller = replace(plan, slow=int(plan.slow * share), idle=int(plan.idle * share))
    return smaller, f"{have + SPARE_DESCRIPTORS} descriptors allow {smaller.slow} + {smaller.idle} connections only"


def _measure(lab: Lab, server: Running, targets: Sequence[str], plan: CrowdPlan) -> dict[str, Any]:
    alone_ms = hits.p99_ms(lab, server, targets, _CASE, plan)
    before = process.memory(server.pids())
    began = time.monotonic()
    with Crowd(lab, server, slow=plan.slow, idle=plan.idle, object_bytes=plan.object_bytes) as crowd:
        opened_s = time.monotonic() - began
        crowded_ms = hits.p99_ms(lab, server, targets, _CASE, plan)
        after = process.memory(server.pids())
        left = crowd.left()
    lost = plan.slow + plan.idle - left
    return {
        "server": server.name,
        "p99_alone_ms": alone_ms,
        "p99_crowded_ms": crowded_ms,
        "rss_added_mib": (after.rss_bytes - before.rss_bytes) / MIB,
        "pss_added_mib": (after.pss_bytes - before.pss_bytes) / MIB,
        "opened_s": opened_s,
        "lost_connections": lost,
        "faults": crowd.faults + ([f"{lost} connections were closed"] if lost else []),
    }


def _measures(rows: Sequence[dict[str, Any]], plan: CrowdPlan, note: str) -> list[Row]:
    mine = next((row for row in rows if row["server"] == NODE), None)
    if mine is None:
        return []
    peer = next((row for row in rows if row["server"] == STATIC), None)
    name = f"{plan.slow:,} slow readers + {plan.idle:,} idle connections"
    added = f"{STATIC} {peer['rss_added_mib']:.0f} MiB" if peer else ""
    slower = f"{STATIC} {_slower(peer)}" if peer else ""
    ratio = mine["p99_crowded_ms"] / max(mine["p99_alone_ms"], 1e-6)
    return [
        at_most(f"{name}: RSS added", mine["rss_added_mib"], 300.0, unit="MiB", peer=added, note=note,
                mine=f"{mine['rss_added_mib']:.0f} MiB"),
        at_most(f"{name}: fast clients' p99 / without", ratio, 1.5, unit="×", mine=_slower(mine), peer=slower,
                note=note),
    ]  # fmt: skip


def _slower(row: dict[str, Any]) -> str:
    return f"{row['p99_alone_ms']:.2f} → {row['p99_crowded_ms']:.2f} ms"


def _table(rows: Sequence[dict[str, Any]], plan: CrowdPlan) -> Table:
    heads = ("server", "RSS added", "PSS added", "fast clients' p99", "connections lost", "faults")
    lines = tuple(
        (
            row["server"],
            f"{row['rss_added_mib']:.0f} MiB",
            f"{row['pss_added_mib']:.0f} MiB",
            _slower(row),
            str(row["lost_connections"]),
            str(len(row["faults"])),
        )
        for row in rows
    )
    return Table(f"Crowd: {plan.slow:,} slow readers, {plan.idle:,} idle connections", heads, lines)
