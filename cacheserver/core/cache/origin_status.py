"""The meaning of an origin's status: for whom it speaks, and whether asking again can help.

Owns: the one table of statuses. Must not know how clients are answered. Pure.
"""

from __future__ import annotations

from enum import Enum


class StatusMeaning(Enum):
    """Groups of final statuses, by what follows from them."""

    ANSWER = "the representation, or another answer to every client: 1xx, 2xx, 3xx"
    GONE = "the origin has no such object, for any client"
    CLIENTS_OWN = "refuses the request of one client: its token, its range, its credentials"
    TRY_LATER = "refuses the request for the moment"
    FAULT = "the origin failed"
    OUTAGE = "the origin, or what it relies on, is away: another try in a moment may succeed"

    @property
    def for_all(self) -> bool:
        """Whether the answer may be given to every client that waits for the object."""
        return self not in (StatusMeaning.CLIENTS_OWN, StatusMeaning.TRY_LATER)

    @property
    def ends_object(self) -> bool:
        """Whether a stored object that is answered so is no longer what the origin has."""
        return self in (StatusMeaning.ANSWER, StatusMeaning.GONE)

    @property
    def source_failed(self) -> bool:
        """Whether the source is at fault, whatever was asked."""
        return self in (StatusMeaning.FAULT, StatusMeaning.OUTAGE)

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later, or at another source."""
        return self.source_failed or self is StatusMeaning.TRY_LATER


_SINGLE = {
    404: StatusMeaning.GONE,
    410: StatusMeaning.GONE,
    408: StatusMeaning.TRY_LATER,
    425: StatusMeaning.TRY_LATER,
    429: StatusMeaning.TRY_LATER,
    502: StatusMeaning.OUTAGE,
    503: StatusMeaning.OUTAGE,
    504: StatusMeaning.OUTAGE,
}


def meaning_of(status: int) -> StatusMeaning:
    """The meaning of a status (RFC 9110 §15); a single one comes before its class."""
    of_class = (StatusMeaning.FAULT if status >= 500 else StatusMeaning.CLIENTS_OWN) if status >= 400 else None
    return _SINGLE.get(status, of_class or StatusMeaning.ANSWER)


_NOT_OF_THE_RANGE = frozenset({401, 404, 407, 408, 410, 421, 425, 429, 451, 502, 503, 504, 511})


def refuses_ranges(status: int) -> bool:
    """Whether a refusal of a request with Range may be meant for the Range alone: servers use many statuses for it."""
    return status >= 400 and status not in _NOT_OF_THE_RANGE
