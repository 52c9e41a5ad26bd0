"""What a store tells others of objects that come and go, besides ``Store.on_gone``.

Owns: the lists of listeners. Everything is called in the loop, at once, and must not wait.
"""

from __future__ import annotations

from collections.abc import Callable

from cacheserver.store.stored_object import StoredObject


class News:
    """Listeners by what happened."""

    def __init__(self) -> None:
        self.on_created: list[Callable[[StoredObject], None]] = []
        """A new generation can be found."""
        self.on_removed: list[Callable[[str], None]] = []
        """Something that was not open was removed; its id."""

    def created(self, obj: StoredObject) -> None:
        """Tell of a new generation."""
        for listener in self.on_created:
            listener(obj)

    def removed(self, object_id: str) -> None:
        """Tell of an object that was removed while it was not open."""
        for listener in self.on_removed:
            listener(object_id)
