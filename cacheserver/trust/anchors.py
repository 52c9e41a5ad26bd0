"""All anchors of a node as one: asked in order, each within its deadline, each fault counted and kept from the caller.

Owns: the order, the merging of claims, building the anchors that the settings name, and the two that ask no service and
read no file. Must not weigh claims: that is ``core.integrity.trust``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aiohttp.abc import AbstractResolver

from cacheserver.core.cache.origin_status import StatusMeaning, meaning_of
from cacheserver.core.errors import AnchorPaused, CacheserverError, OriginStatus
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.digest_fields import claims_from_fields
from cacheserver.core.integrity.name_digest import claim_from_name
from cacheserver.core.integrity.trust import Claim, Statements
from cacheserver.core.request.target import Target
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Clock
from cacheserver.trust.catalogue_anchor import CatalogueAnchor, ReadCatalogue
from cacheserver.trust.content_policy import ContentPolicyAnchor
from cacheserver.trust.edge_cdp import EdgeCdpAnchor
from cacheserver.trust.https_json import HttpsJson, base_of
from cacheserver.trust.issued import Issued
from cacheserver.trust.options import TrustOptions

Count = Callable[[str, str], None]
"""Told of each anchor asked: its name, and ``claim``, ``silent``, ``timeout``, ``failed`` or an error's ``code``."""

_SLACK_S: Final = 60.0
"""What a question may wait for its turn, beyond the deadline for its answer."""
_TO_A_STRANGER: Final = (401, 403, 407)
_log = get_logger(__name__)


class ClaimSource(Protocol):
    """One anchor behind ``Anchors``: unlike ``ports.Anchor`` it may raise."""

    @property
    def name(self) -> str:
        """The anchor's word, as in ``Claim.anchor``."""
        ...

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """What it says; empty when it has nothing to say. ``secure``: see ``ports.UpstreamAnswer``.

        Raises UpstreamError when it cannot tell.
        """
        ...


class Closable(Protocol):
    """What holds connections."""

    async def close(self) -> None:
        """Close them, and end what is under way."""


class NameAnchor:
    """Says what the name of the file says; the rule is ``core.integrity.name_digest``."""

    name = "name"

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """At most one claim."""
        claim = claim_from_name(target)
        return () if claim is None else (claim,)


class DigestFieldAnchor:
    """Says what the origin's own fields say; the grammar is ``core.integrity.digest_fields``.

    An answer counts as whole when it has Content-Length and no Content-Range, so that stored fields, which have
    neither, are never taken for those of a 200. It counts as authentic when TLS carried the answer on every hop; what
    the client's URL says does not matter.
    """

    name = "digest_field"

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """One claim, or several that contradict one another."""
        whole = "Content-Length" in response and "Content-Range" not in response
        return claims_from_fields(response, https=secure, whole=whole)


class Anchors:
    """See ``ports.Anchor``. ``local`` ones are asked first, one after the other, then the ``remote`` ones at once.

    Remote ones are left alone when a local, authentic claim binds the manifest already. The claims come in the order
    of the anchors, the same one only once. ``deadline_s`` bounds a remote one's own wait from the moment it is really
    asked; a minute more bounds each. ``services`` are closed with the anchors.
    """

    def __init__(
        self,
        *,
        local: Sequence[ClaimSource],
        remote: Sequence[ClaimSource],
        deadline_s: float,
        count: Count,
        services: Sequence[Closable] = (),
    ) -> None:
        self._local = tuple(local)
        self._remote = tuple(remote)
        self._limit_s = deadline_s + _SLACK_S
        self._count = count
        self._services = services
        self._tell_refused()

    async def claims(self, target: Target, response: Fields, *, secure: bool = False, ask: bool = True) -> Statements:
        """Everything that is said of the content of ``target``; never raises. ``ask`` False: by local ones alone."""
        told = [await self._ask(source, target, response, secure) for source in self._local]
        if ask and not any(_binds_manifest(claim) for part in told for claim in part):
            told += await asyncio.gather(*(self._ask(source, target, response, secure) for source in self._remote))
        return Statements.of(
            (claim for part in told for claim in part), (name for part in told for name in part.unknown)
        )

    async def _ask(self, source: ClaimSource, target: Target, response: Fields, secure: bool) -> Statements:
        try:
            async with asyncio.timeout(self._limit_s):
                claims = await source.ask(target, response, secure=secure)
        except TimeoutError:
            self._failed(source, target, "timeout", "did not answer in time")
        except CacheserverError as exc:
            self._failed(source, target, exc.code, str(exc), asked=not isinstance(exc, AnchorPaused))
            if isinstance(exc, OriginStatus) and _is_answer(exc.status):
                return Statements()  # it answered: it has nothing to say of this content
        except Exception as exc:  # whatever went wrong here, a fill must go on without this anchor
            self._failed(source, target, "failed", type(exc).__name__)
            _log.debug("anchor failed", exc_info=exc)
        else:
            self._count(source.name, "claim" if claims else "silent")
            return Statements.of(claims)
        return Statements.of((), (source.name,))

    def _failed(self, source: ClaimSource, target: Target, result: str, reason: str, *, asked: bool = True) -> None:
        self._count(source.name, result)
        if asked:
            severity = logging.ERROR if result == "failed" else logging.WARNING
            event(
                _log,
                "anchor_failed",
                severity=severity,
                anchor=source.name,
                result=result,
                reason=reason,
                service=target.service.name,
                object=target.object_id,
            )

    @property
    def speaks(self) -> bool:
        """Whether there is a catalogue entry or a service to ask: what names and fields say never changes."""
        return bool(self._remote) or any(isinstance(each, CatalogueAnchor) and len(each) for each in self._local)

    @property
    def asks(self) -> bool:
        """Whether there is a service to ask."""
        return bool(self._remote)

    def reload(self, options: TrustOptions) -> None:
        """Read the catalogues anew; other changes wait for a restart. Raises ConfigError and keeps the old ones."""
        for source in self._local:
            if isinstance(source, CatalogueAnchor):
                source.reload(files=options.catalogues, trusted_keys=options.catalogue_keys)
        self._tell_refused()

    def expire(self) -> bool:
        """Give up catalogues whose time is over; True where one was in use."""
        gone = [source.expire() for source in self._local if isinstance(source, CatalogueAnchor)]
        if any(gone):
            self._tell_refused()
        return any(gone)

    @property
    def catalogues(self) -> list[ReadCatalogue]:
        """Every catalogue file, and whether it is taken."""
        return [read for each in self._local if isinstance(each, CatalogueAnchor) for read in each.files]

    def _tell_refused(self) -> None:
        for read in self.catalogues:
            if read.refused:
                event(_log, "catalogue_refused", severity=logging.ERROR, file=read.path, reason=read.refused)

    async def close(self) -> None:
        """End every question and close every connection to trust services."""
        for service in self._services:
            await service.close()


def build_anchors(
    options: TrustOptions,
    *,
    clock: Clock,
    count: Count,
    user_agent: str,
    resolver: AbstractResolver | None,
    issued: Issued | None = None,
) -> Anchors:
    """The anchors that ``options`` name: catalogue, name, digest fields, content policy, Edge.

    Reads the catalogues and the CA file. ``resolver``: see ``HttpsJson``; ``issued``: see ``CatalogueAnchor``.
    Raises ConfigError.
    """

    def https(base_url: str) -> HttpsJson:
        return HttpsJson(base_url=base_url, options=options, user_agent=user_agent, resolver=resolver)

    catalogues = CatalogueAnchor(
        files=options.catalogues, trusted_keys=options.catalogue_keys, issued=issued, wall_s=clock.wall_s
    )
    local: list[ClaimSource] = [catalogues]
    if options.names:
        local.append(NameAnchor())
    if options.digest_fields:
        local.append(DigestFieldAnchor())
    remote: list[ContentPolicyAnchor | EdgeCdpAnchor] = []
    if options.content_policy:
        keyvalue = https(base_of(options.content_policy_keyvalue)) if options.content_policy_keyvalue else None
        policy = https(options.content_policy_url)
        remote.append(ContentPolicyAnchor(options=options, https=policy, clock=clock, keyvalue=keyvalue))
    if options.edge_cdp:
        remote.append(EdgeCdpAnchor(options=options, https=https(options.edge_cdp_url), clock=clock))
    return Anchors(local=local, remote=remote, deadline_s=options.deadline_s, count=count, services=remote)


def _is_answer(status: int) -> bool:
    """Whether a service says with this status that it does not know the content; a redirect does not say so."""
    return meaning_of(status) in (StatusMeaning.GONE, StatusMeaning.CLIENTS_OWN) and status not in _TO_A_STRANGER


def _binds_manifest(claim: Claim) -> bool:
    return claim.authentic and (claim.hash_of_hashes is not None or claim.manifest_digest is not None)
