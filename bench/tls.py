"""Warm hits over TLS: the node beside nginx with the same certificate, suite by suite, and session resumption on both.

Both suites of TLS 1.3 that clients take are forced in turn, so that a server's own preference decides nothing. Must not
judge trust: the client takes any certificate.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.content import MIB, Truth, object_path
from bench.first_answer import compare_first
from bench.hits import KIB, Case, HitsPlan, run_hits, title
from bench.hits_rows import table, tls_measures
from bench.lab import AUTHORITY, Lab
from bench.load_drivers import tls_context
from bench.nginx import start_file_origin
from bench.node import tls_settings, with_settings
from bench.report import outcome
from bench.rows import Row, as_facts, at_least, stated
from bench.servers import NODE, STATIC, Kind, Running, running

SUITES = {"AES-128-GCM": "TLS_AES_128_GCM_SHA256", "AES-256-GCM": "TLS_AES_256_GCM_SHA384"}
_SIZES = (("64 KiB", 64 * KIB, True), ("1 MiB", MIB, False), ("10 MiB", 10 * MIB, False))
CASES = tuple(Case(f"{size}, {suite}", count, by_requests, SUITES[suite])
              for size, count, by_requests in _SIZES for suite in SUITES)  # fmt: skip
RECONNECTS = 10


def run_tls(lab: Lab, kinds: Sequence[Kind], plan: HitsPlan) -> dict[str, Any]:
    """Measure rates and resumption of every kind that has a TLS listener; plain data."""
    able = with_settings([kind for kind in kinds if kind.name in (NODE, STATIC)], tls_settings(lab))
    plan = replace(plan, cases=CASES)
    found = run_hits(lab, able, plan)
    rows = found["rows"]
    resumed = _resumption_of_all(lab, able, plan)
    suites = {case.label: case.cipher for case in CASES}
    dropped = [row for row in rows if row["connections"] != plan.connections * plan.runs]
    more = {
        "memory": found["memory"],
        "failed": found["failed"],
        "resumption": resumed,
        "wrong": found["wrong"] or bool(dropped) or any(row["cipher"] != suites[row["case"]] for row in rows),
        "measures": as_facts([*tls_measures(rows), *_resumption_rows(resumed)]),
    }
    return outcome("tls", plan, rows, tables=[table(rows, found["memory"], f"{title(plan)}, over TLS 1.3")], **more)


def _resumption_of_all(lab: Lab, kinds: Sequence[Kind], plan: HitsPlan) -> dict[str, int]:
    """By server, how many of ``RECONNECTS`` connections took up the session of the one before."""
    found = {}
    origin = start_file_origin(lab)
    for kind in kinds:
        with running(kind, lab, origin.port) as server:
            found[server.name] = resumptions(server, lab.truth, plan.object_bytes)
    return found


def resumptions(server: Running, truth: Truth, object_bytes: int) -> int:
    """Reconnect ``RECONNECTS`` times with the last session; how many handshakes the server shortened."""
    assert server.tls_port is not None
    head = f"GET {object_path(0, object_bytes)} HTTP/1.1\r\nHost: {AUTHORITY}\r\nRange: bytes=0-4095\r\n\r\n"
    context = tls_context()
    session: ssl.SSLSession | None = None
    resumed = 0
    for turn in range(RECONNECTS + 1):
        plain = socket.create_connection(("127.0.0.1", server.tls_port), 10.0)
        with context.wrap_socket(plain, server_hostname=AUTHORITY, session=session) as sock:
            # Two answers: the connection stays, and the tickets, which follow the handshake, have been read.
            for _ in range(2):
                compare_first(sock, head.encode(), truth)
            resumed += turn > 0 and bool(sock.session_reused)
            session = sock.session
    return resumed


def _resumption_rows(resumed: dict[str, int]) -> list[Row]:
    name = "HTTPS: sessions resumed, of reconnects"
    mine, theirs = resumed.get(NODE), resumed.get(STATIC)
    texts = {"peer": "" if theirs is None else f"{STATIC} {theirs} of {RECONNECTS}"}
    if mine is None:
        return [stated(name, None, note=f"{NODE} was left out", **texts)]
    return [at_least(name, mine / RECONNECTS, 1.0, mine=f"{mine} of {RECONNECTS}", **texts)]
