"""Via: the path of a message through nodes, and the loop check (RFC 9110 §7.6.3).

Owns: this product's token, how it is found again and how the upstream value is built. Must not answer requests.
"""

from __future__ import annotations

import re

from cacheserver.core.http.field_rules import list_members
from cacheserver.core.http.fields import Fields

MAX_KEPT = 16
"""Most foreign node tokens that go upstream: a loop through up to that many nodes is found whatever a client adds."""

_NODE_TOKEN = re.compile(r"1\.1 cacheserver-[0-9a-f]{16}")


def via_token(node_id: str) -> str:
    """The Via member of a node; ``node_id`` is 16 lower-case hex digits."""
    return f"1.1 cacheserver-{node_id}"


def passed_here(request: Fields, node_id: str) -> bool:
    """Whether a member of the request's Via was received by this node, in whatever protocol version."""
    name = f"cacheserver-{node_id}".lower()
    words = (member.split() for member in list_members(request.value("Via") or ""))
    return any(len(word) >= 2 and word[1].lower() == name for word in words)


def append_via(value: str | None, token: str) -> str:
    """``value`` (the lines received, joined) with ``token`` as its last member."""
    return token if value is None or not value.strip(" \t") else f"{value}, {token}"


def upstream_via(request: Fields, node_id: str) -> str:
    """The Via of an upstream request: the last ``MAX_KEPT`` well-formed node tokens of the request, then our own.

    Members of other products are left out (I10: nothing of the client's goes upstream unnamed). The last ones are
    kept, so that invented members at the front cannot push out the nodes that the request really passed.
    """
    members = list_members(request.value("Via") or "")
    kept = [member for member in members if _NODE_TOKEN.fullmatch(member)]
    return ", ".join((*kept[-MAX_KEPT:], via_token(node_id)))
