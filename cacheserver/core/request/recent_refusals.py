"""What the node has refused of late, and what an operator can do about each.

Owns: a bounded memory of reasons and hosts, and one remedy per reason. Must not hold anything else that a client sent:
no path, no query, no address. Time is handed in. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from cacheserver.core.bounded_memory import BoundedMemory

LIMIT: Final = 50
_HOST_LIMIT: Final = 262
"""The longest host name with a port."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One reason (an error code) and host (canonical, empty where none was understood), ``last_s`` in Unix time."""

    reason: str
    host: str
    count: int
    last_s: float


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do, as a sentence; ``setting`` is the line of the settings file that does it, empty where none does."""

    text: str
    setting: str = ""


class RecentRefusals:
    """The last distinct refusals, at most ``limit``: whatever was not seen for longest makes room."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._seen: BoundedMemory[tuple[str, str], tuple[int, float]] = BoundedMemory(limit)

    def note(self, reason: str, host: str, now_s: float) -> None:
        """Remember one refusal."""
        key = (reason, host[:_HOST_LIMIT])
        count, _last_s = self._seen.get(key) or (0, 0.0)
        self._seen.keep(key, (count + 1, now_s))

    def recent(self) -> list[Refused]:
        """Newest first."""
        return [Refused(*key, *seen) for key, seen in reversed(list(self._seen.items()))]


_REMEDIES: Final = {
    "malformed": "The request was no valid HTTP, or named no valid host: look at the client, or the proxy before it.",
    "method_not_allowed": "The node serves GET and HEAD only: this client should not use it for anything else.",
    "body_refused": "The client sent a body, which a cache has no use for: it should go to the origin directly.",
    "loop": (
        "This request came back to the node: its DNS leads the host here. Give the node another resolver, "
        "or name the origin's address in [upstream.connect_to]."
    ),
    "draining": "The node is going down and takes nothing new.",
    "address_refused": (
        "The host is allowed, but its address is private or special. If that is right, name the block in "
        "allow_addresses of its service, or the address in [upstream.connect_to]."
    ),
}


def remedy(reason: str, host: str) -> Remedy:
    """What an operator can do about a refusal; every reason has an answer."""
    if reason != "host_not_allowed":
        return Remedy(_REMEDIES.get(reason, "The log has an event for it."))
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and not name.endswith(":") and (":" not in name or name.endswith("]")):
        return Remedy("The host is allowed, but on another port: change the port of its entry in the settings.")
    text = "To serve it, put this before the first section of the settings file, or into the list there, and reload."
    return Remedy(text, f"allow = [{json.dumps(host)}]")
