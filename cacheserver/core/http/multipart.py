"""The layout of a ``multipart/byteranges`` answer (RFC 9110 §14.6, RFC 2046 §5.1).

Owns: the bytes between the spans, and the length of the whole body. Must not choose spans (``core.http.ranges``) or the
boundary: the caller makes one that cannot occur in the content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cacheserver.core.http.field_rules import is_field_value
from cacheserver.core.http.ranges import format_content_range

# RFC 2046 §5.1.1, without the characters that would need quoting in the Content-Type parameter.
_BOUNDARY = re.compile(r"[0-9A-Za-z'+_.-]{1,70}")


class MultipartPart(NamedTuple):
    """Bytes to send before a span, and the half-open span of the object itself."""

    head: bytes
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class MultipartPlan:
    """Send for each part its head, then its span; at the end ``closing``. ``length_bytes`` is the sum of it all."""

    parts: tuple[MultipartPart, ...]
    closing: bytes
    length_bytes: int


def plan_multipart(
    ranges: Sequence[tuple[int, int]], *, total: int, content_type: str | None, boundary: str
) -> MultipartPlan:
    """Lay out ``ranges`` (half-open, of an object of ``total`` bytes) as one multipart body.

    ``content_type`` is the object's own; None leaves the line out. Raises ValueError for no ranges, a span outside
    of the object, a boundary outside of RFC 2046's plain characters, or a content type that is no field value.
    """
    if not ranges or _BOUNDARY.fullmatch(boundary) is None:
        raise ValueError("a multipart answer needs ranges and a plain boundary")
    if content_type is not None and not is_field_value(content_type):
        raise ValueError("the content type is not a field value")
    type_line = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    parts: list[MultipartPart] = []
    for start, stop in ranges:
        # The line break before a delimiter belongs to the delimiter; the first one follows the message head directly.
        lead = "\r\n" if parts else ""
        content_range = format_content_range(start, stop, total)
        head = f"{lead}--{boundary}\r\n{type_line}Content-Range: {content_range}\r\n\r\n"
        parts.append(MultipartPart(head.encode("latin-1"), start, stop))
    closing = f"\r\n--{boundary}--\r\n".encode("ascii")
    length_bytes = sum(len(part.head) + part.stop - part.start for part in parts) + len(closing)
    return MultipartPlan(tuple(parts), closing, length_bytes)
