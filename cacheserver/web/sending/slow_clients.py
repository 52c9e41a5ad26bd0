"""Which clients read too slowly. Pure; the senders measure, and cut the connection."""

from typing import Final

RATE_WINDOW_S: Final = 30.0
"""The shortest time that a client is judged by."""


def reads_too_slowly(taken_bytes: int, waited_s: float, *, min_rate_bps: int) -> bool:
    """Whether a client that the node waited for took fewer bytes than the lowest rate allows; 0 allows every rate."""
    return taken_bytes < min_rate_bps * waited_s
