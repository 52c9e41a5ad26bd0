"""What the store asks before it gives up the space of an object: whether another process is still sending it.

Owns: the Protocol and its absence. Descriptors of objects are lent by ``workers``, above this room.
"""

from __future__ import annotations

from typing import Protocol

from cacheserver.store.stored_object import StoredObject


class Lender(Protocol):
    """Lends objects to other processes of the node."""

    async def withdraw(self, obj: StoredObject) -> bool:
        """Take an object back everywhere; False: someone is still sending bytes of it."""
        ...

    def keeps(self, object_id: str) -> bool:
        """Whether someone may still be sending bytes of an object that was taken back."""
        ...


class _Nobody:
    """A node of one process."""

    async def withdraw(self, _obj: StoredObject) -> bool:
        return True

    def keeps(self, _object_id: str) -> bool:
        return False


NOBODY: Lender = _Nobody()
