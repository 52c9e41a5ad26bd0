"""A strict parser of multipart/byteranges bodies (RFC 9110 §14.6).

Owns the parsing only; whether the parts are the right ones is for the test to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cacheserver.core.http.fields import Fields
from tests.support.client import ProtocolError, Response

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: the object's bytes ``[start, stop)`` of ``total``."""

    start: int
    stop: int
    total: int
    fields: Fields
    body: bytes


def content_range(fields: Fields) -> tuple[int, int, int]:
    """``(start, stop, total)`` of a Content-Range line, half-open; ProtocolError where it is missing or odd."""
    match = _CONTENT_RANGE.fullmatch(fields.value("Content-Range") or "")
    if match is None:
        raise ProtocolError(f"Content-Range {fields.value('Content-Range')!r}")
    return int(match[1]), int(match[2]) + 1, int(match[3])


def parts_of(response: Response) -> list[Part]:
    """The parts of a 206 multipart answer; ProtocolError on any deviation from the grammar."""
    kind = re.fullmatch(r'multipart/byteranges; ?boundary="?([^"]+)"?', response.fields.value("Content-Type") or "")
    if kind is None:
        raise ProtocolError(f"Content-Type {response.fields.value('Content-Type')!r}")
    delimiter = f"--{kind[1]}".encode()
    data = response.body.removeprefix(b"\r\n")
    parts = []
    while not data.startswith(delimiter + b"--"):
        if not data.startswith(delimiter + b"\r\n"):
            raise ProtocolError(f"expected {delimiter!r}, got {data[:60]!r}")
        head, blank, data = data[len(delimiter) + 2 :].partition(b"\r\n\r\n")
        if not blank:
            raise ProtocolError("a part's head does not end")
        pairs = [line.partition(b":") for line in head.split(b"\r\n")]
        fields = Fields.from_raw((name, value.strip()) for name, _, value in pairs)
        start, stop, total = content_range(fields)
        body, data = data[: stop - start], data[stop - start :]
        if len(body) != stop - start or not data.startswith(b"\r\n"):
            raise ProtocolError(f"part {start}-{stop} is not as long as it says")
        data = data[2:]
        parts.append(Part(start, stop, total, fields, body))
    if data not in (delimiter + b"--", delimiter + b"--\r\n"):
        raise ProtocolError("bytes after the last part")
    return parts
