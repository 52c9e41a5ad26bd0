"""What one client's request upstream says of others: which requests are the same, and which speak for everybody.

Owns: the identity of an upstream request, and whether what an answer says of an object may end the object. Must not
judge answers. Pure. Only facts about an object change the object: an answer that its client's credentials, spelling or
other fields may have led to is that client's alone.
"""

from __future__ import annotations

import hashlib

from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.cache_control import request_cache_control
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Target

_OF_THE_NODE = frozenset({"via", "cache-control", "pragma"})
"""Fields of every request; none but no-store concerns who asks."""
_PERSONAL = ("Authorization", "Cookie")


def question(target: Target, fields: Fields) -> bytes:
    """What stands for one upstream request: the exact URL and the fields sent. Equal ones get equal answers."""
    lines = [(name.lower(), value) for name, value in fields]
    asked = repr((target.origin, target.path_and_query, lines))
    return hashlib.sha256(asked.encode("utf-8", "surrogateescape")).digest()[:16]


def is_private(target: Target, fields: Fields) -> bool:
    """Whether the request asks for an answer of its own: by credentials, a cookie or no-store."""
    no_store = target.service.own and request_cache_control(fields).no_store
    return no_store or any(name in fields for name in _PERSONAL)


def speaks_for_all(known: Representation, target: Target, fields: Fields) -> bool:
    """Whether what is said to this request holds for every client of the stored representation.

    So it is for the URL that the representation came from, where the key holds all of its query, and for a request
    with no field but those that select the representation (Vary) and those that the node writes itself.
    """
    path, mark, _query = target.path_and_query.partition("?")
    if (target.origin, path) != (known.origin, known.path_and_query) or (mark and target.service.query != "keep"):
        return False
    selecting = set(known.vary)
    if fields.value("Accept-Encoding") == "identity":  # what the node writes where the client names no coding
        selecting.add("accept-encoding")
    others = {name.lower() for name, _value in fields} - _OF_THE_NODE - selecting
    return not others and not is_private(target, fields)
