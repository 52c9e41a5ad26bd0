"""The stored representation: everything about one generation of an object but its bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.core.integrity.trust import Trust


@dataclass(frozen=True, slots=True)
class Representation:
    """One generation of one object.

    ``fields`` are the origin's end-to-end response fields without the ones the node writes itself (Content-Length,
    Content-Range, Age, Via, Cache-Status, Date is kept). Times are Unix seconds of the wall clock.
    """

    key: str
    object_id: str
    service: str
    length_bytes: int
    piece_size_bytes: int
    fields: Fields
    validators: Validators
    request_time_s: float
    response_time_s: float
    origin: str
    """``scheme://host[:port]`` of the source that named this generation."""
    path_and_query: str = ""
    """Target to refetch by, without tokens where the service ignores the query."""
    vary: tuple[str, ...] = ()
    """Lower-case names of the selecting fields."""
    marker: int = 0
    """Number of the Vary marker that leads to it; another one, made after a purge or a loss of the first, does not."""
    combinable: bool = True
    """Whether parts from several answers may be put together (RFC 9111 §3.4; immutable services: always)."""
    trust: Trust = Trust.SIMPLE
    """How far its bytes may be believed."""
    hash_of_hashes: str | None = None
    """Hex, of the manifest that every piece was checked against."""
    statements: str = ""
    """Fingerprint of what catalogues and names said when it was judged; see ``core.integrity.stored_trust``."""
    unsettled: bool = False
    """Whether its manifest, or what an anchor says, could not be learnt yet: to be asked for again."""
    secure: bool = False
    """Whether TLS carried ``fields`` on every hop, so that what they say is authentic."""
    invalidated: bool = False
    """True: must be revalidated before any use, whatever its lifetime says."""

    @property
    def piece_count(self) -> int:
        """Number of pieces; 0 for an empty object."""
        return -(-self.length_bytes // self.piece_size_bytes)

    @property
    def primary_key(self) -> str:
        """The key without the selecting values of a variant."""
        return self.key.rpartition("\n")[0] if self.vary else self.key

    def refreshed(self, fields: Fields, *, request_time_s: float, response_time_s: float) -> Representation:
        """The same bytes with the fields and times of a 304 (RFC 9111 §4.3.4)."""
        return replace(
            self,
            fields=fields,
            request_time_s=request_time_s,
            response_time_s=response_time_s,
            invalidated=False,
        )
