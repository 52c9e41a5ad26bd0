"""The checker: compares whole bodies of a sample with the truth, with a client that shares nothing with the others.

Owns: drawing a sample, reading it through the standard library's HTTP client, naming what is wrong.
"""

from __future__ import annotations

import http.client
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from bench.content import Truth, parse_path


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many bodies were compared, their bytes, and what was wrong with them."""

    bodies: int
    body_bytes: int
    faults: tuple[str, ...]


def check_sample(
    port: int,
    authority: str,
    targets: Sequence[str],
    truth: Truth,
    *,
    range_bytes: int,
    sample: int,
    seed: int = 1,
    tls: bool = False,
) -> Verdict:
    """Compare ``sample`` random aligned ranges (``range_bytes`` 0: whole objects) with the truth, byte for byte."""
    generator = random.Random(seed)
    connection = _connection(port, tls)
    found: list[str] = []
    body_bytes = 0
    try:
        for _ in range(sample):
            target = generator.choice(targets)
            parsed = parse_path(target.partition("?")[0])
            if parsed is None:
                raise ValueError(f"{target!r} names no test object")
            number, length = parsed
            size = range_bytes or length
            start = generator.randrange(length // size) * size
            fields = {"Host": authority}
            if range_bytes:
                fields["Range"] = f"bytes={start}-{start + size - 1}"
            connection.request("GET", target, headers=fields)
            answer = connection.getresponse()
            body = answer.read()
            body_bytes += len(body)
            expected_status = 206 if range_bytes else 200
            if answer.status != expected_status:
                found.append(f"{target} [{start}, {start + size}): status {answer.status}")
            elif body != truth.read(number, start, start + size):
                found.append(f"{target} [{start}, {start + size}): wrong bytes ({len(body)} received)")
    finally:
        connection.close()
    return Verdict(sample, body_bytes, tuple(found))


def _connection(port: int, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
