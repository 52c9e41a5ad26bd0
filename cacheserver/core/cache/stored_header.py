"""A representation as JSON facts: the part that the footer of an object file and the header of a bundle share.

Owns: the names and types of these facts, and the way there and back. Each format adds its own and its own checks.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.core.integrity.trust import Trust


class RepresentationFacts(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One representation but for its hash of hashes."""

    key: str
    object_id: str
    service: str
    length: int
    piece_size: int
    fields: list[tuple[str, str]]
    etag: str | None
    last_modified: str | None
    request_time: float
    response_time: float
    origin: str
    path_and_query: str
    vary: list[str]
    combinable: bool
    invalidated: bool
    trust: int = 0

    def representation(self, *, hash_of_hashes: str | None = None) -> Representation:
        """The representation; a trust level of a later version counts as none."""
        return Representation(
            key=self.key,
            object_id=self.object_id,
            service=self.service,
            length_bytes=self.length,
            piece_size_bytes=self.piece_size,
            fields=Fields(self.fields),
            validators=Validators(self.etag, self.last_modified),
            request_time_s=self.request_time,
            response_time_s=self.response_time,
            origin=self.origin,
            path_and_query=self.path_and_query,
            vary=tuple(self.vary),
            combinable=self.combinable,
            trust=Trust(self.trust) if self.trust in tuple(Trust) else Trust.SIMPLE,
            hash_of_hashes=hash_of_hashes,
            invalidated=self.invalidated,
        )


def facts_of(representation: Representation) -> dict[str, Any]:
    """The facts of a representation by name, for ``RepresentationFacts`` or a struct made from it."""
    return {
        "key": representation.key,
        "object_id": representation.object_id,
        "service": representation.service,
        "length": representation.length_bytes,
        "piece_size": representation.piece_size_bytes,
        "fields": list(representation.fields),
        "etag": representation.validators.etag,
        "last_modified": representation.validators.last_modified,
        "request_time": representation.request_time_s,
        "response_time": representation.response_time_s,
        "origin": representation.origin,
        "path_and_query": representation.path_and_query,
        "vary": list(representation.vary),
        "combinable": representation.combinable,
        "invalidated": representation.invalidated,
        "trust": int(representation.trust),
    }
