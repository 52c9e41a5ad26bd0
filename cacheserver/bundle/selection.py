"""Which objects a SELECTION names.

Owns: the meaning of the words on the command line. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from cacheserver.bundle.header import shown_name
from cacheserver.core.cache.representation import Representation
from cacheserver.core.request.keys import is_object_id


@dataclass(frozen=True, slots=True)
class Selection:
    """Each word is ``all``, an object id, a service's name, or a glob over ``host/path``; an object needs one to fit.

    In a glob ``*`` and ``?`` match ``/`` too; it is held against the escaped and the decoded path, with the host of the
    key (shards folded into one) and with the host that was asked.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> Selection:
        """From the command line."""
        return cls(tuple(words))

    def names(self, representation: Representation) -> bool:
        """Whether the object is selected."""
        exact = {"all", representation.object_id, representation.service}
        if any(word in exact for word in self.words):
            return True
        asked = representation.origin.partition("://")[2] + representation.path_and_query.partition("?")[0]
        texts = {shown_name(representation), asked}
        texts |= {unquote(text) for text in texts}
        return any(fnmatchcase(text, glob) for glob in self.words for text in texts)

    @property
    def only_ids(self) -> tuple[str, ...] | None:
        """The object ids where nothing else is named, so that no other file needs to be opened; else None."""
        ids = all(is_object_id(word) for word in self.words)
        return self.words if ids else None
