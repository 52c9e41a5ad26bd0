"""Whether a body on its way to a client goes on after its source has failed, and where.

Owns: that rule. Must not ask a source or wait. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cacheserver.core.errors import BadPiece, UpstreamError, WrongContent


class Retry(Enum):
    """What to do after a failure."""

    GIVE_UP = "the client learns of the failure"
    AGAIN = "ask once more, whichever source comes first"
    ELSEWHERE = "ask once, at a source that has not given a bad piece"


@dataclass(frozen=True, slots=True)
class Failure:
    """The facts of one failure."""

    error: UpstreamError
    in_a_row: int
    """Failures since the last piece that was right, this one included; bad pieces do not count."""
    tries: int
    """How many of those the client is spared, and one more."""
    resumable: bool
    """Whether another answer can continue where this one stopped, without a mixture of two copies of a piece."""
    sources_left: bool
    """Whether a source is left that has not given a bad piece."""


def after(failure: Failure) -> Retry:
    """What to do after a failure; the first rule that fits."""
    error = failure.error
    if not failure.resumable or isinstance(error, WrongContent):
        return Retry.GIVE_UP
    if isinstance(error, BadPiece):
        return Retry.ELSEWHERE if failure.sources_left else Retry.GIVE_UP
    return Retry.AGAIN if error.retryable and failure.in_a_row < failure.tries else Retry.GIVE_UP
