"""One service: a group of host names that serve the same bytes, with its key rule, lifetimes and upstream rule.

Owns the value and the types of its settings; matching hosts to services is ``core.request.allowlist``, building keys is
``core.request.keys``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

QueryRule = Literal["keep", "ignore", "drop-listed"]
SchemeRule = Literal["http", "https", "as-requested"]
LifetimeRule = Literal["rfc", "immutable"]
RequireRule = Literal["any", "anchored"]


class HostRewrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of ``rewrites``."""

    pattern: Annotated[str, Meta(min_length=1, description="Regular expression over the whole lower-case host.")]
    replacement: Annotated[str, Meta(description=r"Host in the key; \1 or \g<name> for groups of the pattern.")]


class ManifestRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of ``manifests``. ``core.request.keys.manifest_url`` fills ``url`` in.

    ``{base}`` is scheme, host and path as requested, without query; ``{path}`` is the path alone; ``{key_host}`` is the
    host after the service's rewrites.
    """

    path: Annotated[str, Meta(min_length=1, description="Glob over the decoded path; * matches / too.")]
    url: Annotated[str, Meta(description="URL of the piece-hash file, of {base}, {path}, {key_host}.")]


class ServiceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ``[services.<name>]`` table: everything that can be set of a service."""

    hosts: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1, description='Names, *.zone, IP literals; or "http://name:port", which sets scheme and port.'
        ),
    ]
    """A zone covers every name below it, not itself."""
    canonical_host: Annotated[str | None, Meta(description="Host in the key for all hosts of the service.")] = None
    rewrites: Annotated[tuple[HostRewrite, ...], Meta(description="Hosts that share keys; first match wins.")] = ()
    """Only in the key, never upstream."""
    query: Annotated[QueryRule, Meta(description="Query in the key: all, none, or all but query_drop.")] = "keep"
    query_drop: Annotated[tuple[str, ...], Meta(description="Decoded names of pairs left out of the key.")] = ()
    scheme_in_key: Annotated[
        bool | None, Meta(description="http and https are asked for apart; unset: in own services only.")
    ] = None
    """Unset: in own services that ask as requested. What plain clients made the node store answers no TLS client
    then."""
    collapse_slashes: Annotated[bool, Meta(description="// in a path counts as / in the key.")] = False
    scheme: Annotated[SchemeRule | None, Meta(description="How origins are asked; unset: as the client asked.")] = None
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65_535)] | None, Meta(description="Origin port; unset: 80 or 443.")
    ] = None
    lifetime: Annotated[LifetimeRule, Meta(description="rfc, or immutable: fresh until evicted.")] = "rfc"
    heuristic_min_s: Annotated[
        int, Meta(ge=0, description="Seconds for which an answer is fresh at least whose origin says nothing of it.")
    ] = 0
    """Of ``rfc`` services. RFC 9111 §4.2.2 guesses by Last-Modified alone: 0 is what it says."""
    mutable: Annotated[tuple[str, ...], Meta(description="Globs over decoded paths that immutable leaves out.")] = ()
    mutable_lifetime_s: Annotated[int, Meta(ge=0, description="Seconds for which a mutable path is fresh.")] = 300
    stale_while_revalidate_s: Annotated[int, Meta(ge=0, description="Seconds of staleness served meanwhile.")] = 0
    stale_if_error_s: Annotated[int, Meta(ge=0, description="Seconds of staleness served on errors.")] = 86_400
    """Both apply to mutable paths of ``immutable`` services. To ``rfc`` services the second alone applies, where the
    origin has no directive for it."""
    cacheable: Annotated[bool, Meta(description="False: pass everything through, store nothing.")] = True
    forward_fields: Annotated[tuple[str, ...], Meta(description="Request fields sent upstream; * for all.")] = ()
    """I10; ``*`` means every end-to-end field."""
    manifests: Annotated[tuple[ManifestRule, ...], Meta(description="Where piece-hash files live.")] = ()
    """The first rule whose path fits is used; none: no manifest."""
    require: Annotated[RequireRule, Meta(description="Trust that content needs: any, or anchored.")] = "any"
    sources: Annotated[tuple[str, ...], Meta(description="Further sources as base URLs.")] = ()
    """``cachehost+http://node:port`` speaks cacheHostOrigin."""
    prefer_sources: Annotated[bool, Meta(description="Ask them before the origin that the client named.")] = False
    digest_in_name: Annotated[
        bool, Meta(description="File names carry the content's SHA-1, as /Content/XX/<40 hex>.<ext> of WSUS does.")
    ] = False
    """See ``core.integrity.name_digest``."""
    allow_addresses: Annotated[tuple[str, ...], Meta(description="CIDR blocks that the hosts may resolve to.")] = ()
    """Private ones and loopback too (I9)."""


class Service(ServiceTable, frozen=True, kw_only=True):
    """One service with its name; every value is in canonical form."""

    name: str
    scheme: SchemeRule = "as-requested"
    own: bool = False
    """True for the operator's services and ``--allow``; False for the shipped ones."""

    @property
    def forwards_everything(self) -> bool:
        """Whether every end-to-end request field goes upstream."""
        return "*" in self.forward_fields
