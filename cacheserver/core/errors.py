"""The one error tree. Facts are attributes of an error; what its readers need are attributes of its class.

Owns: code, answer, exit code, label and remedy of each error. Responses, metrics, logs, status page, exit codes and the
reference page read them here. Must not hold what depends on a request or on settings. Messages are one line and carry
no query string, no token and no control character.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from cacheserver.core.cache.origin_status import meaning_of
from cacheserver.core.http.fields import Fields


@dataclass(frozen=True, slots=True)
class Remedy:
    """What an operator can do, as a sentence; ``setting`` is the line of the settings file for it, or empty."""

    text: str
    setting: str = ""


class CacheserverError(Exception):
    """Root of every error that the node raises on purpose.

    ``code`` is a short, stable word for metrics and logs. ``label`` names it on the status page, ``remedy`` says what
    an operator can do. ``own_status`` and ``own_fields`` make the node's answer while no head is out (a 4xx only where
    the request is at fault, I8); ``hint`` follows its message; ``closes`` ends its connection.
    """

    code: ClassVar[str] = "error"
    label: ClassVar[str] = ""
    remedy: ClassVar[str] = "The log has an event for it."
    own_status: ClassVar[int] = 500
    own_fields: ClassVar[tuple[tuple[str, str], ...]] = ()
    closes: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    hint = ""

    def __init_subclass__(
        cls, *, code: str | None = None, own_status: int | None = None, retryable: bool | None = None
    ) -> None:
        """Set the attributes that a class statement names as keywords; the others are inherited."""
        super().__init_subclass__()
        for name, value in (("code", code), ("own_status", own_status), ("retryable", retryable)):
            if value is not None:
                setattr(cls, name, value)

    @classmethod
    def advice(cls, _host: str) -> Remedy:
        """What an operator can do where the client named ``_host``."""
        return Remedy(cls.remedy)


# -- what a client asked for ------------------------------------------------------------------------------------


class RequestError(CacheserverError, code="bad_request", own_status=400):
    """The request cannot be served as it stands."""


class MalformedRequest(RequestError, code="malformed"):
    """The target, the host or a field does not follow the grammar."""

    label, closes = "malformed request", True
    remedy = "The request was no valid HTTP, or named no valid host: look at the client, or the proxy before it."


class HostNotAllowed(RequestError, code="host_not_allowed", own_status=403):
    """The origin host is in no service of this node."""

    label = "host not allowed"
    remedy = "Add this host to allow at the top of the settings file, then reload."

    def __init__(self, host: str) -> None:
        super().__init__(f"origin host {host!r} is not allowed on this node")
        self.host = host
        self.hint = f"; allow it with --allow {host} or a [services] entry"

    @classmethod
    def advice(cls, host: str) -> Remedy:
        """The line of settings that allows ``host``; a host with a port is allowed already, but on another one."""
        name, colon, port = host.rpartition(":")
        if colon and port.isdecimal() and not name.endswith(":") and (":" not in name or name.endswith("]")):
            return Remedy("The host is allowed, but on another port: change the port of its entry in the settings.")
        return Remedy(cls.remedy, f"allow = [{json.dumps(host)}]")


class MethodNotAllowed(RequestError, code="method_not_allowed", own_status=405):
    """Only GET and HEAD are served."""

    label, closes = "method not allowed", True
    own_fields = (("Allow", "GET, HEAD"),)
    remedy = "The node serves GET and HEAD only: this client should not use it for anything else."

    def __init__(self, method: str) -> None:
        super().__init__("only GET and HEAD are served here")
        self.method = method


class MethodUnknown(RequestError, code="method_unknown", own_status=501):
    """A method that no registry knows (RFC 9110 §9.1)."""

    label, closes = "unknown method", True
    remedy = "The client sent a method that HTTP does not have: look at it, or at what else speaks to this port."

    def __init__(self, text: str = "this method is not known here; only GET and HEAD are served") -> None:
        super().__init__(text)


class VersionUnknown(RequestError, code="version_unknown", own_status=505):
    """Another major version of HTTP, or a minor one that does not exist (RFC 9110 §15.6.6)."""

    label, closes = "unknown HTTP version", True
    remedy = "The node speaks HTTP/1.0 and HTTP/1.1: look at the client, or the proxy before it."

    def __init__(self, text: str = "only HTTP/1.0 and HTTP/1.1 are spoken here") -> None:
        super().__init__(text)


class HeadTooLong(RequestError, code="head_too_long", own_status=431):
    """A request head is larger than the limit."""

    label, closes = "head too long", True
    remedy = "A request head is larger than server.max_head: raise it if the client is right to send so much."

    def __init__(self, text: str = "the request head is larger than server.max_head") -> None:
        super().__init__(text)


class BodyRefused(RequestError, code="body_refused", own_status=413):
    """A request body was announced."""

    label, closes = "request with a body", True
    remedy = "The client sent a body, which a cache has no use for: it should go to the origin directly."


class LoopDetected(RequestError, code="loop", own_status=508):
    """The request has passed through this node before."""

    label = "loop"
    remedy = (
        "This request came back to the node: its DNS leads the host here. Give the node another resolver, "
        "or name the origin's address in [upstream.connect_to]."
    )


class Draining(RequestError, code="draining", own_status=503):
    """The node is going down and takes no new fill."""

    label = "node going down"
    remedy = "The node is going down and takes nothing new."


# -- what an upstream source did --------------------------------------------------------------------------------


class UpstreamError(CacheserverError, code="upstream", own_status=502):
    """A source did not give what was asked of it.

    ``source`` is ``scheme://host:port`` without path or query; ``retryable`` says whether another try or another
    source can help.
    """

    retryable = True
    remedy = "Ask the origin for the same URL from the machine of the node. `cacheserver doctor` tries every origin."

    def __init__(self, message: str, *, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class ResolveFailed(UpstreamError, code="resolve"):
    """The origin host has no address."""

    remedy = "DNS gives no address for this host: check the name, and the resolver of this machine."


class AddressRefused(UpstreamError, code="address_refused", retryable=False):
    """The origin host resolved only to addresses that the address policy refuses (I9)."""

    label = "address not allowed"
    remedy = (
        "The host is allowed, but its address is private or special. If that is right, name the block in "
        "allow_addresses of its service, or the address in [upstream.connect_to]."
    )


class ConnectFailed(UpstreamError, code="connect"):
    """No connection, or TLS failed."""

    remedy = "Check route, firewall and proxy from this machine to the host. `cacheserver doctor` tries every origin."


class UntrustedSource(ConnectFailed, code="untrusted"):
    """The TLS certificate of a source is of no trusted authority, out of date, or for another name."""

    remedy = "Check the clock of this machine. For an authority of your own, name its file in upstream.ca_file."


class CertificateRefused(UpstreamError, code="certificate", retryable=False):
    """The TLS certificate of a trust service is not trusted, out of date, or for another name."""


class AnchorPaused(UpstreamError, code="anchor_paused"):
    """A trust service failed a moment ago and is not asked again yet."""


class UpstreamTimeout(UpstreamError, code="timeout", own_status=504):
    """The source was silent for too long."""

    remedy = "The origin or the link to it is slow: test it from this machine; the limits are in [upstream] and [fill]."


class OriginStatus(UpstreamError, code="origin_status"):
    """The source answered with a status that is not the representation (4xx, 5xx, a refused redirect)."""

    def __init__(self, status: int, fields: Fields | None = None, *, source: str = "") -> None:
        super().__init__(f"origin answered {status}", source=source)
        self.status = status
        self.retryable = meaning_of(status).passing
        self.retry_after = None if fields is None else fields.value("Retry-After")
        """The field as sent (RFC 9110 §10.2.3)."""


class TooManyRedirects(UpstreamError, code="redirects", retryable=False):
    """The source leads in circles, or too far."""


class BadAnswer(UpstreamError, code="bad_answer"):
    """The source's answer contradicts the request: wrong range, length, total, coding or framing."""

    def __init__(self, what: str, *, expected: object = None, got: object = None, source: str = "") -> None:
        detail = "" if expected is None and got is None else f": expected {expected}, got {got}"
        super().__init__(f"{what}{detail}", source=source)
        self.expected = expected
        self.got = got


class BadContentRange(BadAnswer):
    """The source makes nothing of a Range: its answer does not say which bytes it holds, or holds others."""


class PageInstead(BadAnswer, code="page_instead"):
    """HTML came in place of a payload: a captive portal or a filter answers for the origin."""

    remedy = "Log in at the portal, or have the filter pass the node's requests. `cacheserver doctor` shows which."


class TruncatedBody(UpstreamError, code="truncated"):
    """The source ended the body early, or the connection broke."""


class BadPiece(UpstreamError, code="bad_piece"):
    """The bytes that a source gave for a piece do not have the digest that the manifest names."""

    def __init__(self, piece: int, *, source: str = "") -> None:
        super().__init__(f"piece {piece} is not what the manifest says", source=source)
        self.piece = piece


class WrongContent(UpstreamError, code="wrong_content", retryable=False):
    """The whole content does not have the digest that its name, a catalogue or a digest field says."""

    def __init__(self, anchor: str, *, source: str = "") -> None:
        super().__init__(f"the whole content is not what {anchor} says", source=source)
        self.anchor = anchor


class NoSource(UpstreamError, code="no_source", retryable=False):
    """Every source of this content is banned for bad bytes."""


class NoMemory(UpstreamError, code="no_memory", own_status=503, retryable=False):
    """There is no room for what has to be compared before it goes out."""


class GenerationChanged(UpstreamError, code="generation_changed", retryable=False):
    """The source now holds another representation than the one being filled (I5)."""

    def __init__(self, what: str, *, retagged: bool = False) -> None:
        super().__init__(what)
        self.retagged = retagged
        """Whether only the entity tag differs, so that another edge of the source may still give the first one."""


# -- what the disk did ------------------------------------------------------------------------------------------


class StoreError(CacheserverError, code="store", own_status=503):
    """The store cannot keep or give bytes."""

    remedy = "Look at the drives: `cacheserver doctor` checks every volume; the events volume_* tell what failed."


class StoreFull(StoreError, code="store_full"):
    """No space could be reserved, or the file system is full: pass through.

    ``missing_bytes`` is how much would have to be freed first; 0 where that is not known.
    """

    def __init__(self, *args: object, missing_bytes: int = 0) -> None:
        super().__init__(*args)
        self.missing_bytes = missing_bytes


class TooLarge(StoreError, code="too_large"):
    """The object has more pieces than the node keeps track of: pass through."""


class Outdated(StoreError, code="purged"):
    """The object was purged while it was asked for: pass through."""


class Withdrawn(StoreError, code="withdrawn"):
    """The object was purged or lost its file while it was read: its readers go on past the store."""


class VolumeOffline(StoreError, code="volume_offline"):
    """No volume is online for this object."""


class DiskError(StoreError, code="disk_error"):
    """A disk call failed; ``errno`` tells which way."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class CorruptObject(StoreError, code="corrupt_object"):
    """An object file does not describe itself correctly."""


class PieceMismatch(StoreError, code="piece_mismatch"):
    """The bytes of a piece do not have the digest that they must have."""

    def __init__(self, piece: int, *, expected: bytes, got: bytes) -> None:
        super().__init__(f"piece {piece} does not match the stored digest")
        self.piece = piece
        self.expected = expected
        self.got = got


# -- metadata and configuration ---------------------------------------------------------------------------------


class ManifestError(CacheserverError, code="bad_manifest"):
    """A piece-hash file is malformed or contradicts itself."""


class CatalogueError(CacheserverError, code="bad_catalogue"):
    """A content catalogue is malformed, contradicts itself, or is not signed by a trusted key."""


class BundleError(CacheserverError, code="bad_bundle"):
    """A bundle, or one object in it, is damaged, hostile or not signed by a trusted key."""


class FetchFailed(CacheserverError, code="fetch_failed"):
    """The fetch tool could not get the content, or what it got is not what it must be."""


class PinRefused(CacheserverError, code="pin_refused"):
    """Content cannot be pinned: it would take too much room, may not be stored, or the origin does not have it."""


class AdminFailed(CacheserverError, code="admin_failed"):
    """A node was not reached on its admin listener, or refused. ``heard``: it answered, so asking again can help."""

    def __init__(self, message: str, *, heard: bool = False) -> None:
        super().__init__(message)
        self.heard = heard


class ConfigError(CacheserverError, code="config"):
    """A setting is wrong. ``where`` is ``file:line`` or a flag, ``key`` the dotted key."""

    exit_code = 2

    def __init__(self, message: str, *, where: str = "", key: str = "") -> None:
        super().__init__(": ".join(part for part in (where, key, message) if part))
        self.message = message
        self.where = where
        self.key = key


def error_kinds() -> tuple[type[CacheserverError], ...]:
    """The error tree in the order of this module."""
    kinds = (kind for kind in globals().values() if isinstance(kind, type))
    return tuple(kind for kind in kinds if issubclass(kind, CacheserverError))


def kind_of(code: str) -> type[CacheserverError]:
    """The first error with this code; the root for an unknown one."""
    return next((kind for kind in error_kinds() if kind.code == code), CacheserverError)
