"""Canonical targets and cache keys: when two requests mean the same object.

Owns: the grammar of paths and queries, the removal of ``cacheHostOrigin``, and the key. Two spellings may share a key
only where RFC 3986 §6.2.2 says that they are equivalent, or where the service's rule says so. What goes upstream is
never touched here but for the pairs that are removed: signed tokens break when an escape changes its case.

Decisions where specifications leave room:

* A path with a dot segment (also ``%2e``) is refused, not resolved: origins differ in how they resolve it.
* ``"<>\\`` and escaped control characters are refused in the path. In a query only ``"<>`` and ``%00`` are, as browsers
  send the backslash there. ``^`{|}``, which clients send as they are although RFC 3986 has them escaped, are accepted
  (a departure from RFC 9112 §3.2, as nginx does it); in the key they are escaped.
* An invalid escape (``%zz``) is refused in the path. A query with one is its own canonical form, as a whole: nothing
  in it is decoded, so it can never equal the canonical form of another query.
* ``%2F`` is not ``/``, ``?`` with nothing behind it is not the absence of a query, and letter case counts.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from cacheserver.core.errors import MalformedRequest
from cacheserver.core.request.service import HostRewrite, Service
from cacheserver.core.request.target import Target

MAX_TARGET: Final = 16 * 1024
"""Longest path and query, in characters."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_CACHE_HOST_ORIGIN: Final = "cacheHostOrigin="
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPED_DOT: Final = re.compile(r"(?i)/(?:%2e|%2e%2e|\.%2e|%2e\.)(?:/|$)")
_PATH: Final = re.compile(r"/[!$%&'()*+,\-./0-9:;=@A-Z\[\]^_`a-z{|}~]*")
_UNESCAPED: Final = re.compile(r"[\^`{|}]")
_QUERY: Final = re.compile(r"[!$-;=?-~]*")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED_CONTROL: Final = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{32}")
_SLASHES: Final = re.compile(r"/{2,}")
_PLACEHOLDER: Final = re.compile(r"\{(?:base|path|key_host)\}")


@dataclass(frozen=True, slots=True)
class CanonicalTarget:
    """A path and query in the one spelling that all equivalent ones share; ``query`` is None without a ``?``."""

    path: str
    query: str | None


def canonical_target(path_and_query: str) -> CanonicalTarget:
    """Canonical form of an origin-form target (RFC 9112 §3.2.1), after RFC 3986 §6.2.2.1 and §6.2.2.2.

    Escapes of unreserved characters are decoded, all others get upper-case digits. Raises MalformedRequest for
    everything that the module's decisions refuse, for a target of more than 16 KiB, and for one without leading ``/``.
    """
    if len(path_and_query) > MAX_TARGET:
        raise MalformedRequest("the target is longer than 16 KiB")
    raw_path, mark, raw_query = path_and_query.partition("?")
    path = _canonical_path(raw_path)
    return CanonicalTarget(path, _canonical_query(raw_query) if mark else None)


def split_cache_host_origin(raw_target: str) -> tuple[str, str | None]:
    """Take all ``cacheHostOrigin=`` pairs out of a path and query; return the rest and the last pair's raw value.

    The name counts only in this very spelling. Every other byte stays, so that the rest is the URL to which the client
    appended the pair. Without such a pair: the input and None. Some clients send the pair twice; a cache behind this
    one that counted the first of them would fetch another host's content for this one's key.
    """
    path, mark, query = raw_target.partition("?")
    pairs = query.split("&") if mark else []
    kept = [pair for pair in pairs if not pair.startswith(_CACHE_HOST_ORIGIN)]
    if len(kept) == len(pairs):
        return raw_target, None
    value = next(pair for pair in reversed(pairs) if pair.startswith(_CACHE_HOST_ORIGIN))
    return (f"{path}?{'&'.join(kept)}" if kept else path), value[len(_CACHE_HOST_ORIGIN) :]


def key_host(service: Service, host: str) -> str:
    """The host that stands in keys for a canonical host: the service's own, or what its first fitting rewrite says."""
    if service.canonical_host is not None:
        return service.canonical_host
    return _rewritten(service.rewrites, host) if service.rewrites else host


@lru_cache(maxsize=4096)
def _rewritten(rewrites: tuple[HostRewrite, ...], host: str) -> str:
    for rewrite in rewrites:
        found = re.fullmatch(rewrite.pattern, host)
        if found is not None:
            return found.expand(rewrite.replacement).lower()
    return host


def cache_key(service: Service, scheme: str, host: str, port: int, canonical: CanonicalTarget) -> str:
    """The cache key: service, scheme, host, path and query, one per line; no part can hold a line break.

    The scheme is ``*`` where the service says so, and where it has one scheme: the same bytes come either way. The
    port appears only where it is not the scheme's own; the query line is empty or starts with ``?``.
    """
    apart = service.own if service.scheme_in_key is None else service.scheme_in_key
    fixed = not apart or service.scheme != "as-requested"
    shown_host = key_host(service, host)
    if port != DEFAULT_PORTS[scheme]:
        shown_host = f"{shown_host}:{port}"
    return "\n".join((service.name, "*" if fixed else scheme, shown_host, *_key_parts(service, canonical)))


def content_name(target: Target) -> str:
    """The canonical path of a target and what of its query is in the key: what tells contents of one host apart.

    Without tokens where the service leaves them out of the key. Raises MalformedRequest for a target that was never
    admitted.
    """
    return "".join(_key_parts(target.service, canonical_target(target.path_and_query)))


def object_id(key: str) -> str:
    """32 hex digits of the key's SHA-256: the only name under which an object is stored."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def is_object_id(text: str) -> bool:
    """Whether ``text`` has the form of an object id: 32 lower-case hex digits."""
    return _OBJECT_ID.fullmatch(text) is not None


def manifest_url(target: Target) -> str | None:
    """URL of the piece-hash file of a target by its service's first fitting rule, or None."""
    path = target.path_and_query.partition("?")[0]
    decoded = unquote(path)
    rule = next((rule for rule in target.service.manifests if fnmatchcase(decoded, rule.path)), None)
    if rule is None:
        return None
    values = {
        "{base}": f"{target.origin}{path}",
        "{path}": path,
        "{key_host}": key_host(target.service, target.host),
    }
    return _PLACEHOLDER.sub(lambda found: values[found[0]], rule.url)


def _canonical_path(raw: str) -> str:
    if not _PATH.fullmatch(raw):
        raise MalformedRequest("the path does not start with / or holds a forbidden character")
    if _BAD_ESCAPE.search(raw) or _ESCAPED_CONTROL.search(raw):
        raise MalformedRequest("the path holds an invalid escape or an escaped control character")
    path = _escaped(_ESCAPE.sub(_canonical_escape, raw))
    if "/." not in path:
        return path
    # "./" of flat package repositories means its directory; "..", and dots that were escaped, are only ever tricks
    segments = path.split("/")
    if ".." in segments or _ESCAPED_DOT.search(raw):
        raise MalformedRequest("the path holds a dot segment")
    kept = [segment for segment in segments if segment != "."]
    return "/".join(kept) + ("/" if segments[-1] == "." else "")


def _canonical_query(raw: str) -> str:
    if not _QUERY.fullmatch(raw) or "%00" in raw:
        raise MalformedRequest("the query holds a forbidden character")
    return raw if _BAD_ESCAPE.search(raw) else _escaped(_ESCAPE.sub(_canonical_escape, raw))


def _escaped(text: str) -> str:
    """``text`` with the escapes that clients leave out."""
    return _UNESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", text)


def _canonical_escape(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code in _UNRESERVED else found[0].upper()


def _key_parts(service: Service, canonical: CanonicalTarget) -> tuple[str, str]:
    """The path in the key, and the query with its ``?``, empty where the key has none."""
    path = _SLASHES.sub("/", canonical.path) if service.collapse_slashes else canonical.path
    if canonical.query is None or service.query == "ignore":
        return path, ""
    if service.query == "keep":
        return path, f"?{canonical.query}"
    dropped = {name.encode() for name in service.query_drop}
    pairs = (pair for pair in canonical.query.split("&") if pair)
    kept = [pair for pair in pairs if unquote_to_bytes(pair.partition("=")[0]) not in dropped]
    return path, f"?{'&'.join(kept)}" if kept else ""
