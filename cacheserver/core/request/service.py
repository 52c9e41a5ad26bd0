"""One service: a group of host names that serve the same bytes, with its key rule, lifetimes and upstream rule.

Owns the value; matching hosts to services is ``core.request.allowlist``, building keys is ``core.request.keys``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QueryRule = Literal["keep", "ignore", "drop-listed"]
SchemeRule = Literal["http", "https", "as-requested"]
LifetimeRule = Literal["rfc", "immutable"]
RequireRule = Literal["any", "anchored"]


@dataclass(frozen=True, slots=True)
class HostRewrite:
    """A regular expression over the whole origin host and the host that stands in the cache key for it."""

    pattern: str
    replacement: str


@dataclass(frozen=True, slots=True)
class ManifestRule:
    """Where the piece-hash file of some of a service's paths lives.

    ``path`` is a glob over the decoded path; ``*`` and ``?`` match ``/`` too. ``url`` is a template: ``{base}`` is
    scheme, host and path as requested, without query; ``{path}`` is the path alone; ``{key_host}`` is the host after
    the service's rewrites. ``core.request.keys.manifest_url`` fills it in.
    """

    path: str
    url: str


@dataclass(frozen=True, slots=True)
class Service:
    """What the node knows of one service. Every field is data from ``services.toml`` or the operator's file."""

    name: str
    hosts: tuple[str, ...]
    """Exact names, or ``*.zone`` for every name below a zone (not the zone itself)."""
    canonical_host: str | None = None
    """Host in the cache key for all of ``hosts``; None: the request's own host after ``rewrites``."""
    rewrites: tuple[HostRewrite, ...] = ()
    """Shard names folded into one, first match wins; only in the key, never upstream."""
    query: QueryRule = "keep"
    """``keep``: whole query in the key · ``ignore``: none of it · ``drop-listed``: all but ``query_drop``."""
    query_drop: tuple[str, ...] = ()
    collapse_slashes: bool = False
    scheme: SchemeRule = "as-requested"
    port: int | None = None
    """Origin port; None: 80 for http, 443 for https."""
    lifetime: LifetimeRule = "rfc"
    """``immutable``: fresh until evicted, but for ``mutable`` paths · ``rfc``: RFC 9111 to the letter."""
    mutable: tuple[str, ...] = ()
    """Glob patterns over the decoded path that are revalidated under ``immutable``."""
    mutable_lifetime_s: int = 300
    stale_while_revalidate_s: int = 0
    stale_if_error_s: int = 86_400
    """Both apply to shipped services' mutable paths; ``rfc`` services use the origin's own directives."""
    cacheable: bool = True
    """False: every request passes through, nothing is stored."""
    forward_fields: tuple[str, ...] = ()
    """Request fields that go upstream (I10); ``*``: every end-to-end field."""
    manifests: tuple[ManifestRule, ...] = ()
    """Where piece-hash files live; the first rule whose path fits is used, none: no manifest."""
    require: RequireRule = "any"
    sources: tuple[str, ...] = ()
    """Further sources as base URLs; ``cachehost+http://node:port`` speaks cacheHostOrigin."""
    prefer_sources: bool = False
    """Ask ``sources`` before the origin that the client named."""
    digest_in_name: bool = False
    """File names carry the SHA-1 of the content, as update metadata gives them; see ``core.integrity.name_digest``."""
    allow_addresses: tuple[str, ...] = ()
    """CIDR blocks (private ones, loopback) that this service's hosts may resolve to (I9)."""
    own: bool = False
    """True for the operator's services and ``--allow``; False for the shipped ones."""

    @property
    def forwards_everything(self) -> bool:
        """Whether every end-to-end request field goes upstream."""
        return "*" in self.forward_fields
