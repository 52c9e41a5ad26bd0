"""The one error tree. Facts are attributes; turning them into answers and exit codes happens elsewhere.

Every class has a ``code``: a short, stable word that metrics and logs use as a label. Messages are one line and
carry no query string, no token and no control character.
"""

from __future__ import annotations

from typing import Protocol

from cacheserver.core.cache.origin_status import meaning_of
from cacheserver.core.http.fields import Fields


class CacheserverError(Exception):
    """Root of every error that the node raises on purpose."""

    code = "error"


# -- what a client asked for ------------------------------------------------------------------------------------


class RequestError(CacheserverError):
    """The request cannot be served as it stands."""

    code = "bad_request"


class MalformedRequest(RequestError):
    """The target, the host or a field does not follow the grammar (answer 400)."""

    code = "malformed"


class HostNotAllowed(RequestError):
    """The origin host is in no service of this node (answer 403)."""

    code = "host_not_allowed"

    def __init__(self, host: str) -> None:
        super().__init__(f"origin host {host!r} is not allowed on this node")
        self.host = host


class MethodNotAllowed(RequestError):
    """Only GET and HEAD are served (answer 405 with Allow)."""

    code = "method_not_allowed"

    def __init__(self, method: str) -> None:
        super().__init__("only GET and HEAD are served here")
        self.method = method


class BodyRefused(RequestError):
    """A request body was announced (answer 413 and close)."""

    code = "body_refused"


class LoopDetected(RequestError):
    """The request has passed through this node before (answer 508)."""

    code = "loop"


class Draining(RequestError):
    """The node is going down and takes no new fill (answer 503)."""

    code = "draining"


# -- what an upstream source did --------------------------------------------------------------------------------


class UpstreamError(CacheserverError):
    """A source did not give what was asked of it.

    ``source`` is ``scheme://host:port`` without path or query; ``retryable`` says whether another try or another
    source can help.
    """

    code = "upstream"
    retryable = True

    def __init__(self, message: str, *, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class ResolveFailed(UpstreamError):
    """The origin host has no address."""

    code = "resolve"


class AddressRefused(UpstreamError):
    """The origin host resolved only to addresses that the address policy refuses (I9)."""

    code = "address_refused"
    retryable = False


class ConnectFailed(UpstreamError):
    """No connection, or TLS failed."""

    code = "connect"


class UntrustedSource(ConnectFailed):
    """The TLS certificate of a source is of no trusted authority, out of date, or for another name."""

    code = "untrusted"


class CertificateRefused(UpstreamError):
    """The TLS certificate of a trust service is not trusted, out of date, or for another name."""

    code = "certificate"
    retryable = False


class AnchorPaused(UpstreamError):
    """A trust service failed a moment ago and is not asked again yet."""

    code = "anchor_paused"


class UpstreamTimeout(UpstreamError):
    """The source was silent for too long."""

    code = "timeout"


class _Answer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def fields(self) -> Fields: ...
    @property
    def source(self) -> str: ...


class OriginStatus(UpstreamError):
    """The source answered with a status that is not the representation (4xx, 5xx, a refused redirect)."""

    code = "origin_status"

    def __init__(self, status: int, *, source: str = "", message: str = "", retry_after: str | None = None) -> None:
        super().__init__(message or f"origin answered {status}", source=source)
        self.status = status
        self.retryable = meaning_of(status).passing
        self.retry_after = retry_after
        """The field of that name, as sent (RFC 9110 §10.2.3)."""

    @classmethod
    def of(cls, answer: _Answer) -> OriginStatus:
        """The error for an answer that is not the representation."""
        return cls(answer.status, source=answer.source, retry_after=answer.fields.value("Retry-After"))


class TooManyRedirects(UpstreamError):
    """The source leads in circles, or too far."""

    code = "redirects"
    retryable = False


class BadAnswer(UpstreamError):
    """The source's answer contradicts the request: wrong range, length, total, coding or framing."""

    code = "bad_answer"

    def __init__(self, what: str, *, expected: object = None, got: object = None, source: str = "") -> None:
        detail = "" if expected is None and got is None else f": expected {expected}, got {got}"
        super().__init__(f"{what}{detail}", source=source)
        self.expected = expected
        self.got = got


class BadContentRange(BadAnswer):
    """The source cannot do ranges: its 206 says nothing usable of which bytes it holds."""


class TruncatedBody(UpstreamError):
    """The source ended the body early, or the connection broke."""

    code = "truncated"


class BadPiece(UpstreamError):
    """The bytes that a source gave for a piece do not have the digest that the manifest names."""

    code = "bad_piece"

    def __init__(self, piece: int, *, source: str = "") -> None:
        super().__init__(f"piece {piece} is not what the manifest says", source=source)
        self.piece = piece


class WrongContent(UpstreamError):
    """The whole content does not have the digest that its name, a catalogue or a digest field says."""

    code = "wrong_content"
    retryable = False

    def __init__(self, anchor: str, *, source: str = "") -> None:
        super().__init__(f"the whole content is not what {anchor} says", source=source)
        self.anchor = anchor


class NoSource(UpstreamError):
    """Every source of this content is banned for bad bytes."""

    code = "no_source"
    retryable = False


class GenerationChanged(UpstreamError):
    """The source now holds another representation than the one being filled (I5)."""

    code = "generation_changed"
    retryable = False


# -- what the disk did ------------------------------------------------------------------------------------------


class StoreError(CacheserverError):
    """The store cannot keep or give bytes."""

    code = "store"


class StoreFull(StoreError):
    """No space could be reserved, or the file system is full: pass through.

    ``missing_bytes`` is how much would have to be freed first; 0 where that is not known.
    """

    code = "store_full"

    def __init__(self, *args: object, missing_bytes: int = 0) -> None:
        super().__init__(*args)
        self.missing_bytes = missing_bytes


class VolumeOffline(StoreError):
    """No volume is online for this object."""

    code = "volume_offline"


class DiskError(StoreError):
    """A disk call failed; ``errno`` tells which way."""

    code = "disk_error"

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class CorruptObject(StoreError):
    """An object file does not describe itself correctly."""

    code = "corrupt_object"


class PieceMismatch(StoreError):
    """The bytes of a piece do not have the digest that they must have."""

    code = "piece_mismatch"

    def __init__(self, piece: int, *, expected: bytes, got: bytes, against: str) -> None:
        super().__init__(f"piece {piece} does not match the {against} digest")
        self.piece = piece
        self.expected = expected
        self.got = got
        self.against = against


# -- metadata and configuration ---------------------------------------------------------------------------------


class ManifestError(CacheserverError):
    """A piece-hash file is malformed or contradicts itself."""

    code = "bad_manifest"


class CatalogueError(CacheserverError):
    """A content catalogue is malformed, contradicts itself, or is not signed by a trusted key."""

    code = "bad_catalogue"


class BundleError(CacheserverError):
    """A bundle, or one object in it, is damaged, hostile or not signed by a trusted key."""

    code = "bad_bundle"


class FetchFailed(CacheserverError):
    """The fetch tool could not get the content, or what it got is not what it must be."""

    code = "fetch_failed"


class PinRefused(CacheserverError):
    """Content cannot be pinned: it would take too much room, may not be stored, or the origin does not have it."""

    code = "pin_refused"


class AdminFailed(CacheserverError):
    """A running node could not be reached on its admin listener, or refused what was asked of it there."""

    code = "admin_failed"


class ConfigError(CacheserverError):
    """A setting is wrong. ``where`` is ``file:line`` or a flag, ``key`` the dotted key."""

    code = "config"

    def __init__(self, message: str, *, where: str = "", key: str = "") -> None:
        place = ": ".join(part for part in (where, key) if part)
        super().__init__(f"{place}: {message}" if place else message)
        self.where = where
        self.key = key
