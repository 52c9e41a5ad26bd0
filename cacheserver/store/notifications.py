"""What a store tells others of objects that come, change and go.

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
        self.on_gone: list[Callable[[StoredObject], None]] = []
        """An object stops being findable, or has lost pieces."""
        self.on_removed: list[Callable[[str], None]] = []
        """Something that was not open was removed; its id."""

    def created(self, obj: StoredObject) -> None:
        """Tell of a new generation."""
        for listener in self.on_created:
            listener(obj)

    def gone(self, obj: StoredObject) -> None:
        """Tell of an object that is gone or has lost pieces."""
        for listener in self.on_gone:
            listener(obj)

    def removed(self, object_id: str) -> None:
        """Tell of an object that was removed while it was not open."""
        for listener in self.on_removed:
            listener(object_id)
