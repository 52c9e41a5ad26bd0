"""Clients of a thin line, with a node and without one: what each gets, and who would ban the node.

``python -m bench.thin --mbps 1 --files 6``: a command of its own, as it needs root for the line (``bench.line``). Each
client asks for a file of its own, again after each answer, as Delivery Optimization's clients do: it gives a node up
that sends less than 4,000 B/s over 20 s or nothing for 20 s, and goes elsewhere after a 5xx. Every byte is compared.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from bench.content import MIB, object_path
from bench.lab import AUTHORITY, Lab, OriginLimits
from bench.line import FAR, QUEUES, ThinLine, enter
from bench.node import start_node

LEAST_BPS, WINDOW_S = 4000, 20.0


@dataclass(slots=True)
class Client:
    """One client, its file, and what became of its requests."""

    number: int
    address: tuple[str, int]
    length_bytes: int
    got_bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def run(self, lab: Lab, until_s: float) -> None:
        """Ask until the time is over or the node is given up."""
        while time.monotonic() < until_s:
            try:
                outcome = self._ask(lab, until_s)
            except OSError:
                outcome = "cut"
            self.outcomes[outcome] += 1
            if outcome in ("banned", "over", "5xx", "done"):
                return

    def _ask(self, lab: Lab, until_s: float) -> str:
        source = (f"127.0.1.{self.number + 1}", 0) if self.address[0].startswith("127.") else None
        with socket.create_connection(self.address, 20, source_address=source) as sock:
            path = object_path(self.number, self.length_bytes)
            head = f"GET {path} HTTP/1.1\r\nHost: {AUTHORITY}\r\nRange: bytes={self.got_bytes}-\r\n\r\n"
            sock.sendall(head.encode())
            return self._read(lab, sock, until_s)

    def _read(self, lab: Lab, sock: socket.socket, until_s: float) -> str:
        data, marks = b"", deque([(time.monotonic(), self.got_bytes)])
        body = False
        while True:
            now = time.monotonic()
            if now >= until_s:
                return "over"
            while now - marks[0][0] > WINDOW_S:
                since = marks.popleft()
                if self.got_bytes - since[1] < LEAST_BPS * WINDOW_S:
                    return "banned"
            sock.settimeout(min(1.0, until_s - now))
            try:
                chunk = sock.recv(1 << 16)
            except TimeoutError:
                continue
            if not chunk:
                return "cut"
            data += chunk
            if not body:
                answer_head, end, data = data.partition(b"\r\n\r\n")
                if not end:
                    data = answer_head
                    continue
                if not answer_head.startswith((b"HTTP/1.1 206", b"HTTP/1.1 200")):
                    return "5xx" if answer_head.startswith(b"HTTP/1.1 5") else "refused"
                body = True
            stop = self.got_bytes + len(data)
            if data != lab.truth.read(self.number, self.got_bytes, stop):
                return "wrong"
            self.got_bytes, data = stop, b""
            marks.append((time.monotonic(), stop))
            if stop == self.length_bytes:
                return "done"


def measure(lab: Lab, options: argparse.Namespace, *, with_node: bool) -> dict[str, object]:
    """One cell: all clients at once for the time given."""
    log = lab.directory("line") / "log"
    with ThinLine(mbps=options.mbps, delay_ms=options.delay_ms, queue=options.queue, log=log) as line:
        enter(line.far)
        with lab.origin(OriginLimits(), address=FAR) as origin:
            enter(line.site)
            address = FAR, origin.port
            if with_node:
                address = "127.0.0.1", start_node(lab, origin.port, origin_address=FAR).port
            clients = [Client(number, address, options.file_mib * MIB) for number in range(options.files)]
            until_s = time.monotonic() + options.seconds
            threads = [threading.Thread(target=client.run, args=(lab, until_s)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    got = sorted(client.got_bytes for client in clients)
    return {"node": with_node, "bytes": sum(got), "least": got[0], "most": got[-1], "outcomes": dict(outcomes)}


def main(argv: list[str]) -> None:
    """Measure one cell without and with a node; prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.thin", description=__doc__)
    parser.add_argument("--mbps", type=float, default=1.0)
    parser.add_argument("--delay-ms", type=float, default=40.0)
    parser.add_argument("--queue", choices=QUEUES, default="fifo")
    parser.add_argument("--files", type=int, default=6, help="clients, each with a file of its own")
    parser.add_argument("--file-mib", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(argv)
    with Lab(seed=1, longest_bytes=options.file_mib * MIB) as lab:
        cells = [measure(lab, options, with_node=with_node) for with_node in (False, True)]
    ratio = int(str(cells[1]["bytes"])) / max(1, int(str(cells[0]["bytes"])))
    print(json.dumps({"cell": vars(options), "ratio": round(ratio, 3), "cells": cells}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
