"""Events of the store: objects that come, change and go, and drives that are full.

Owns: the lists of listeners. A listener is called in the event loop, at once, and must not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cacheserver.store.stored_object import StoredObject
from cacheserver.store.volume import Volume

T = TypeVar("T")


class Listeners(list[Callable[[T], None]]):
    """The listeners of one event, called in the order in which they were appended."""

    def __call__(self, subject: T) -> None:
        """Call every listener with what the event is about."""
        for listener in self:
            listener(subject)


class Notifications:
    """The listeners of every event."""

    def __init__(self) -> None:
        self.created: Listeners[StoredObject] = Listeners()
        """A new generation can be found."""
        self.withdrawn: Listeners[StoredObject] = Listeners()
        """An open object was closed, became obsolete or lost pieces: what was known of it may no longer hold."""
        self.removed: Listeners[str] = Listeners()
        """An object or marker that may not be open was removed; its id."""
        self.purged: Listeners[str] = Listeners()
        """A purge begins: what was asked for before is not to be given to who asks from now on; the object's id."""
        self.filled: Listeners[StoredObject] = Listeners()
        """A fill has ended."""
        self.unjudged: Listeners[StoredObject] = Listeners()
        """Its trust is to be judged again: what is said of it has changed, or an anchor could not tell."""
        self.drive_full: Listeners[Volume] = Listeners()
        """A drive refused a write for lack of space."""
