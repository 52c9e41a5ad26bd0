"""What a right origin answers to one request (RFC 9110 §13, §14), and the same answer with a fault in it.

Owns: method, conditions, range → status, field lines, payload. Must not touch sockets or schedule anything.
"""

from __future__ import annotations

import gzip
import re
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from cacheserver.core.http.fields import Fields
from tests.support.content import Content, Fault, FieldLines, Spelling, http_date

_SINGLE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BOUNDARY = "origin-part"


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer: ``payload`` holds the object's bytes from ``offset`` on unless the status says otherwise."""

    status: int
    fields: FieldLines
    payload: bytes = b""
    offset: int = 0
    has_body: bool = True

    def value(self, name: str) -> str | None:
        """The first line of that name."""
        return Fields(self.fields).first(name)


def right_answer(content: Content, method: str, request: Fields) -> Answer:
    """The answer of an origin without fault. Several ranges in one request get the whole object, as is allowed."""
    if method not in ("GET", "HEAD"):
        return Answer(405, (("Allow", "GET, HEAD"), ("Date", http_date(time.time()))))
    fields = _representation_fields(content)
    if content.status != 200:
        return Answer(content.status, fields, content.body)
    condition = _failed_condition(content, request)
    if condition == 304:
        return Answer(304, tuple(line for line in fields if line[0].lower() != "content-type"), has_body=False)
    if condition == 412:
        return Answer(412, fields)
    wanted = _range(content, request) if method == "GET" else None
    if wanted is None:
        return Answer(200, fields, content.body)
    start, stop = wanted
    total = len(content.body)
    if start >= stop:
        return Answer(416, (*fields, ("Content-Range", f"bytes */{total}")))
    content_range = ("Content-Range", f"bytes {start}-{stop - 1}/{total}")
    return Answer(206, (*fields, content_range), content.body[start:stop], start)


def with_fault(answer: Answer, fault: Fault, content: Content) -> Answer:
    """The same answer with what ``fault`` changes in its head and payload; cuts and delays are the server's."""
    if fault.status is not None:
        text = f"origin says {fault.status}\n".encode()
        base = (("Date", http_date(time.time())), ("Content-Type", "text/plain"))
        bodiless = fault.status in (204, 304)
        answer = Answer(fault.status, base, b"" if bodiless else text, has_body=not bodiless)
    if fault.flip_at is not None and answer.offset <= fault.flip_at < answer.offset + len(answer.payload):
        spoiled = bytearray(answer.payload)
        spoiled[fault.flip_at - answer.offset] ^= 0xFF
        answer = replace(answer, payload=bytes(spoiled))
    if answer.status == 206:
        answer = _with_range_fault(answer, fault, len(content.body))
    if fault.gzip or fault.bomb_bytes:
        coded = gzip.compress(bytes(fault.bomb_bytes) if fault.bomb_bytes else answer.payload, mtime=0)
        answer = replace(answer, payload=coded, fields=(*answer.fields, ("Content-Encoding", "gzip")))
    fields = tuple(line for line in answer.fields if line[0].lower() not in fault.without)
    fields += fault.headers
    if fault.pad_head_bytes:
        fields += (("X-Pad", "p" * fault.pad_head_bytes),)
    return replace(answer, fields=fields)


def head_bytes(answer: Answer, fault: Fault) -> bytes:
    """Status line, field lines and framing as they go on the wire, informational heads before them."""
    lines = list(answer.fields)
    if fault.endless or fault.framing.startswith("chunked"):
        lines.append(("Transfer-Encoding", "chunked"))
    elif fault.framing == "close":
        lines.append(("Connection", "close"))
    elif answer.has_body:
        lines.extend(("Content-Length", str(len(answer.payload) + delta)) for delta in fault.length_deltas)
    text = f"HTTP/1.1 {answer.status} Answer\r\n"
    text += "".join(f"{_spelt(name, fault.spelling)}: {value}\r\n" for name, value in lines)
    early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" * fault.informational
    return (early + text + "\r\n").encode("latin-1")


def _spelt(name: str, spelling: Spelling) -> str:
    return {"exact": name, "lower": name.lower(), "upper": name.upper()}[spelling]


def _representation_fields(content: Content) -> FieldLines:
    lines = [("Date", http_date(time.time())), ("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes")]
    if content.entity_tag is not None:
        lines.append(("ETag", content.entity_tag))
    if content.last_modified is not None:
        lines.append(("Last-Modified", content.last_modified))
    replaced = {name.lower() for name, _ in content.headers}
    return (*(line for line in lines if line[0].lower() not in replaced), *content.headers)


def _with_range_fault(answer: Answer, fault: Fault, length: int) -> Answer:
    start, stop = answer.offset, answer.offset + len(answer.payload)
    total = length if fault.range_total is None else fault.range_total
    content_range = f"bytes {start + fault.range_shift}-{stop - 1 + fault.range_shift}/{total}"
    fields = tuple(line for line in answer.fields if line[0] != "Content-Range")
    if not fault.multipart:
        return replace(answer, fields=(*fields, ("Content-Range", content_range)))
    head = f"--{_BOUNDARY}\r\nContent-Range: {content_range}\r\n\r\n".encode()
    kind = ("Content-Type", f"multipart/byteranges; boundary={_BOUNDARY}")
    fields = (*(line for line in fields if line[0] != "Content-Type"), kind)
    return replace(answer, fields=fields, payload=head + answer.payload + f"\r\n--{_BOUNDARY}--\r\n".encode())


def _opaque(tag: str) -> str:
    return tag.strip().removeprefix("W/")


def _tags(value: str) -> list[str]:
    return [tag.strip() for tag in value.split(",")]


def _not_after(date: str | None, limit: str | None) -> bool:
    """Whether ``date`` is known and not later than ``limit``."""
    if date is None or limit is None:
        return False
    return parsedate_to_datetime(date) <= parsedate_to_datetime(limit)


def _failed_condition(content: Content, request: Fields) -> int | None:
    """304, 412 or None, in the order of RFC 9110 §13.2.2."""
    tag = content.entity_tag
    match, none_match = request.value("If-Match"), request.value("If-None-Match")
    if match is not None:
        if match != "*" and (tag is None or tag.startswith("W/") or tag not in _tags(match)):
            return 412
    elif "If-Unmodified-Since" in request and not _not_after(
        content.last_modified, request.first("If-Unmodified-Since")
    ):
        return 412
    if none_match is not None:
        hit = none_match == "*" or (tag is not None and _opaque(tag) in map(_opaque, _tags(none_match)))
        return 304 if hit else None
    return 304 if _not_after(content.last_modified, request.first("If-Modified-Since")) else None


def _range(content: Content, request: Fields) -> tuple[int, int] | None:
    """The asked range half-open, an empty one where it cannot be satisfied, None where the whole is to be sent."""
    match = _SINGLE_RANGE.fullmatch(request.last("Range") or "")
    if match is None or match.group(0) == "bytes=-":
        return None
    if_range = request.first("If-Range")
    if if_range is not None and if_range not in (content.entity_tag, content.last_modified):
        return None
    if if_range is not None and if_range.startswith("W/"):
        return None
    total = len(content.body)
    if not match[1]:
        return max(0, total - int(match[2])), total
    start = int(match[1])
    stop = min(total, int(match[2]) + 1) if match[2] else total
    if match[2] and int(match[2]) < start:
        return None
    return start, max(start, stop)
