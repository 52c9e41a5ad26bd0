"""The life of a stored object: its states, and the events that lead from one to the next.

Owns: the table. An event that the table does not have for a state cannot happen to an object: it is a fault of the
node itself, never of a client, an origin or a drive. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Life(Enum):
    """Where one generation of an object is."""

    ABSENT = "no file and no row"
    CREATING = "its file is being written under a name of its own; it cannot be found"
    OPEN = "has a descriptor; its pieces may be added, read and condemned"
    CLOSED = "a file and a row, no descriptor"
    RETIRING = "cannot be found any more; its holders still read it"
    GONE = "its descriptor is closed and its blocks are freed"


class Event(Enum):
    """What can happen to a generation."""

    CREATE = "a fill needs it"
    CREATED = "its file stands under its name"
    FAILED = "its file could not be written"
    OPENED = "its file was opened"
    CLOSE = "other objects need its descriptor, or the node stops; only without a holder"
    RETIRE = "it was purged, evicted, superseded or found corrupt"
    LAST_RELEASE = "its last holder has let go"


LIFE: Final[Mapping[tuple[Life, Event], Life]] = {
    (Life.ABSENT, Event.CREATE): Life.CREATING,
    (Life.CREATING, Event.CREATED): Life.OPEN,
    (Life.CREATING, Event.FAILED): Life.ABSENT,
    (Life.CLOSED, Event.OPENED): Life.OPEN,
    (Life.CLOSED, Event.RETIRE): Life.GONE,
    (Life.OPEN, Event.CLOSE): Life.CLOSED,
    (Life.OPEN, Event.RETIRE): Life.RETIRING,
    (Life.RETIRING, Event.LAST_RELEASE): Life.GONE,
}


class IllegalTransition(AssertionError):
    """An event met an object in a state that the table does not have for it."""

    def __init__(self, now: Life, event: Event) -> None:
        super().__init__(f"{event.name} cannot happen to an object that is {now.name}")
        self.now, self.event = now, event


def after(now: Life, event: Event) -> Life:
    """The state after ``event``. Raises IllegalTransition where the table has none."""
    try:
        return LIFE[now, event]
    except KeyError:
        raise IllegalTransition(now, event) from None
