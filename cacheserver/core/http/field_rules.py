"""Which field lines pass through the node: hop-by-hop, stored, merged from a 304, sent upstream.

Owns: the grammar of a field line and of comma lists (RFC 9110 §5.1, §5.5, §5.6.1), and the choice of lines by name.
Must not interpret values beyond ``Connection``. Keeps I10: an upstream request is built from named fields only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cacheserver.core.http.fields import Fields

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Horizontal tab, printable ASCII and Latin-1; every other control character is invalid (RFC 9110 §5.5).
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"})
_WRITTEN_BY_NODE = frozenset({"content-length", "content-range", "age", "via", "cache-status", "accept-ranges"})
OF_THE_MESSAGE = ("content-digest", "content-md5")
"""Digests of the bytes in one message (RFC 9530 §2): they say nothing of a part that is cut out of it."""

# A 304 that names another coding cannot change the bytes that are stored; its cookie is for one client; a digest is of
# its own body.
_NOT_FROM_304 = frozenset({"content-encoding", "set-cookie", *OF_THE_MESSAGE})


def is_token(text: str) -> bool:
    """Whether ``text`` is a token (RFC 9110 §5.6.2), as field names must be."""
    return _TOKEN.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether ``text`` may go on the wire as a field value: no CR, LF, NUL or other control but tab, Latin-1 only."""
    return _VALUE.fullmatch(text) is not None


def list_members(value: str) -> tuple[str, ...]:
    """Non-empty members of a comma list, trimmed (RFC 9110 §5.6.1); commas in quoted strings do not split.

    A quote that is never closed is taken as a plain character, so that it hides no directive after it. One pass.
    """
    members: list[str] = []
    start = position = 0
    unclosed = False
    while position < len(value):
        if value[position] == ",":
            members.append(value[start:position])
            start = position + 1
        elif value[position] == '"' and not unclosed:
            closing = _closing_quote(value, position + 1)
            unclosed = closing < 0
            position = position if unclosed else closing
        position += 1
    members.append(value[start:])
    return tuple(member for text in members if (member := text.strip(" \t")))


def _closing_quote(value: str, position: int) -> int:
    while position < len(value):
        if value[position] == "\\":
            position += 1
        elif value[position] == '"':
            return position
        position += 1
    return -1


def end_to_end(fields: Fields) -> Fields:
    """Without the fields of this connection: Connection, what it names, and the known ones (RFC 9110 §7.6.1)."""
    named = {member.lower() for member in list_members(fields.value("Connection") or "")}
    drop = _HOP_BY_HOP | named
    return Fields(
        (name, value)
        for name, value in fields
        if (lower := name.lower()) not in drop and not lower.startswith("proxy-")
    )


def storable_fields(fields: Fields, strip: Iterable[str] = ()) -> Fields:
    """What is stored with an object (RFC 9111 §3.1): end-to-end, well-formed, not in ``strip``.

    Leaves out what the node writes itself: Content-Length, Content-Range, Age, Via, Cache-Status, Accept-Ranges.
    """
    drop = _WRITTEN_BY_NODE | {name.lower() for name in strip}
    return Fields(
        (name, value)
        for name, value in end_to_end(fields)
        if name.lower() not in drop and is_token(name) and is_field_value(value)
    )


def merge_304(stored: Fields, update: Fields) -> Fields:
    """The stored fields after a 304: each field that it carries replaces all lines of that name (RFC 9111 §3.2).

    Not taken over: what is never stored, Content-Encoding, Set-Cookie. Strip qualified private names before. The
    stored Date goes in any case: beside a 304 without one it would make the answer look as old as the first (§4.2.3).
    """
    fresh = [line for line in storable_fields(update) if line[0].lower() not in _NOT_FROM_304]
    replaced = {"date", *(name.lower() for name, _ in fresh)}
    return Fields([*(line for line in stored if line[0].lower() not in replaced), *fresh])
