"""Whether a body on its way to a client goes on after its source has failed, and where.

Owns: that rule. Must not ask a source or wait. Pure.
"""

from __future__ import annotations

from enum import Enum

from cacheserver.core.errors import BadPiece, UpstreamError, WrongContent


class Retry(Enum):
    """What to do after a failure."""

    GIVE_UP = "the client learns of the failure"
    AGAIN = "ask once more, whichever source comes first"
    ELSEWHERE = "ask once, at a source that has not given a bad piece"


def after(error: UpstreamError, *, resumable: bool, sources_left: bool, tries_left: int) -> Retry:
    """What to do after ``error``; the first rule that fits.

    ``resumable``: another answer can continue where this one stopped, without a mixture of two copies of a piece.
    ``sources_left``: a source has not given a bad piece yet. ``tries_left``: how often the source may still break.
    """
    if not resumable or isinstance(error, WrongContent):
        return Retry.GIVE_UP
    if isinstance(error, BadPiece):
        return Retry.ELSEWHERE if sources_left else Retry.GIVE_UP
    return Retry.AGAIN if error.retryable and tries_left > 0 else Retry.GIVE_UP
