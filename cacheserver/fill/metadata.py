"""Metadata of one content: its manifest and what anchors claim, fetched while the first bytes arrive.

Owns: fetching it, and the memory of contents without a manifest. Must not store pieces or touch sources' bans.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from cacheserver.core.bounded_memory import BoundedMemory
from cacheserver.core.cache.sources import candidates
from cacheserver.core.errors import ManifestError, NoSource, OriginStatus, UpstreamError
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from cacheserver.core.integrity.release import Facts, Said, Verdict, decide
from cacheserver.core.integrity.trust import Claim, Statements, Trust, is_coded, judge_manifest
from cacheserver.core.request.keys import manifest_url
from cacheserver.core.request.target import Target
from cacheserver.fill.asking import Asker, Want
from cacheserver.fill.refused_content import note_refused
from cacheserver.logs.events import event, get_logger
from cacheserver.ports import Anchor, Clock, Meter, UpstreamAnswer

_log = get_logger(__name__)
_MEMORY_ENTRIES = 4096
_DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Metadata:
    """What was found for one content: a manifest that fits it, or none, and what anchors say."""

    manifest: Manifest | None
    trust: Trust
    claims: tuple[Claim, ...] = ()
    unknown: bool = False
    """Whether something could not be learnt in time: it is to be asked again, and nothing follows from its absence."""
    blocked: str = ""
    """Why no byte may be taken on trust, though there is no manifest; empty: nothing speaks against it."""
    era: int = 0
    """The fetcher's when it was asked for."""

    def by_pieces(self, piece_size_bytes: int) -> Manifest | None:
        """The manifest, where each piece of the node is a whole number of its pieces."""
        known = self.manifest
        return known if known is not None and piece_size_bytes % known.piece_size_bytes == 0 else None

    def of_whole(self, piece_size_bytes: int) -> tuple[Claim, ...]:
        """What is compared with the whole, because no anchored manifest is compared with every piece.

        A manifest of larger pieces than the node's is such a statement.
        """
        by_pieces = self.by_pieces(piece_size_bytes)
        if by_pieces is not None and self.trust is Trust.ANCHORED:
            return ()
        claims = tuple(c for c in self.claims if c.whole_digests or (c.authentic and c.states_pieces))
        if self.manifest is None or by_pieces is not None:
            return claims
        anchored = self.trust is Trust.ANCHORED
        return *claims, Claim("manifest", authentic=anchored, hash_of_hashes=self.manifest.hash_of_hashes)

    @property
    def anchored(self) -> bool:
        """Whether the content is bound to something authentic, by pieces or as a whole.

        Not by a hash of hashes whose manifest is withheld: nothing could be compared before the last piece.
        """
        return self.trust is Trust.ANCHORED or any(claim.authentic and claim.whole_digests for claim in self.claims)

    def goes_beyond(self, known: Metadata, piece_size_bytes: int, *, whole: bool) -> str:
        """Who states what bytes that were held against ``known`` were not held against; empty: nobody does."""
        if known.manifest is not None and self.manifest is None:
            return "a statement against the manifest"
        if not whole:
            return ""
        compared = {fact for claim in known.of_whole(piece_size_bytes) for fact in claim.facts_of_whole}
        new = (each for each in self.of_whole(piece_size_bytes) if not compared.issuperset(each.facts_of_whole))
        return next((claim.anchor for claim in new), "")

    def refuse_blocked(self, meter: Meter, object_id: str) -> None:
        """Raise NoSource where no byte may be taken on trust."""
        rule = decide(Facts(whole=Said.UNREACHABLE if self.blocked else Said.NOTHING))
        if rule.verdict is Verdict.REFUSE:
            note_refused(meter, rule.reason, object_id=object_id)
            raise NoSource(self.blocked)


NOTHING = Metadata(None, Trust.SIMPLE)


class MetadataFetcher:
    """Fetches manifests by the services' rules and asks the anchors; remembers for seconds where there was none."""

    def __init__(
        self,
        *,
        asker: Asker,
        anchor: Anchor,
        admit: Callable[[str], Target | None],
        meter: Meter,
        clock: Clock,
        negative_s: float,
    ) -> None:
        self._asker = asker
        self._anchor = anchor
        self._admit = admit
        self._meter = meter
        self._clock = clock
        self._negative_s = negative_s
        self._absent = BoundedMemory[str, bool](_MEMORY_ENTRIES)
        """Manifests that no source gave; True where one failed, so that this is not certain."""
        self.era = 0
        """How often what is said of contents has changed: what was learnt before may not hold any more."""

    def expects_manifest(self, target: Target) -> bool:
        """Whether the service says that there is a manifest for this target."""
        return manifest_url(target) is not None

    async def fetch(self, want: Want, response: Fields, *, secure: bool, length_bytes: int | None) -> Metadata:
        """Everything that can be learnt of this content; never raises, never takes longer than 15 s.

        ``secure``: of the answer with the fields ``response``. ``length_bytes``: the content's, None where it is not
        known yet.
        """
        coded, era = is_coded(response), self.era
        asking = asyncio.create_task(self._claims(want.target, response, secure))
        try:
            async with asyncio.timeout(_DEADLINE_S):
                found = NOTHING if coded else await self._manifest(want.target, asking, length_bytes)
                claims = await asking
        except TimeoutError:
            self._meter.manifest("timeout")
            found = replace(NOTHING, unknown=True)
            claims = await self._as_far_as_known(asking, want.target, response, secure)
        finally:
            asking.cancel()
        return replace(self._weighed(found, claims, length_bytes), era=era)

    async def again(
        self, known: Metadata, want: Want, response: Fields, *, secure: bool, length_bytes: int | None
    ) -> Metadata:
        """The same with what anchors say now; never raises, never takes longer than 15 s.

        The manifest stays where nothing contradicts it. Who cannot tell now has said what he said before.
        """
        asking = asyncio.create_task(self._claims(want.target, response, secure))
        await asyncio.wait((asking,), timeout=_DEADLINE_S)
        told = await self._as_far_as_known(asking, want.target, response, secure)
        asking.cancel()
        kept = (claim for claim in known.claims if claim.anchor in told.unknown or "all" in told.unknown)
        claims = Statements.of((*told, *kept), told.unknown)
        found = replace(known, blocked="")
        if known.manifest is not None:
            try:
                found = replace(found, trust=judge_manifest(known.manifest, claims))
            except ManifestError as exc:
                self._meter.manifest(_refused("contradicts", want.target.origin, exc))
                found = replace(NOTHING, unknown=known.unknown)
        return self._weighed(found, claims, length_bytes)

    def _weighed(self, found: Metadata, claims: Statements, length_bytes: int | None) -> Metadata:
        """A manifest with claims about the same content, which has this length."""
        known = {None, length_bytes} if length_bytes is not None else {claim.length_bytes for claim in claims}
        if any(claim.authentic and claim.length_bytes not in known for claim in claims):
            self._meter.manifest("contradicts")
            return Metadata(None, Trust.SIMPLE, claims, blocked="the content's length is not the one that was signed")
        if found.manifest is not None and length_bytes == 0:
            return Metadata(None, Trust.SIMPLE, claims, blocked="the content is empty, and its manifest is of another")
        return replace(found, claims=tuple(claims), unknown=found.unknown or bool(claims.unknown))

    async def _claims(self, content: Target, response: Fields, secure: bool) -> Statements:
        """What anchors say of the bytes of this answer."""
        return (await self._anchor.claims(content, response, secure=secure)).about(response)

    async def _as_far_as_known(
        self, asking: asyncio.Task[Statements], content: Target, response: Fields, secure: bool
    ) -> Statements:
        """What anchors have said when the time is over; where services are mute, what is known without them."""
        if asking.done() and not asking.cancelled():
            return asking.result()
        told = Statements()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(1.0, _DEADLINE_S)):
                told = await self._anchor.claims(content, response, secure=secure, ask=False)
        return Statements.of(told.about(response), ("all",))

    async def _manifest(self, content: Target, claims: asyncio.Task[Statements], length_bytes: int | None) -> Metadata:
        """The manifest of the first source that has a fitting one: a bad source must not turn verification off."""
        url = manifest_url(content)
        target = self._admit(url) if url is not None else None
        if target is None:
            return NOTHING
        failed = self._absent.get(target.key, self._clock.monotonic_s())
        if failed is not None:
            return replace(NOTHING, unknown=failed)
        names, tried, word = {source.name for source in candidates(target)}, set[str](), "absent"
        while tried < names:
            try:
                about = content.object_id  # whose bytes of it were wrong has no better manifest
                answer = await self._asker.send(Want(target, Fields()), avoid=frozenset(tried), about=about)
            except UpstreamError as exc:
                failed = failed or exc.retryable
                if exc.source in tried or exc.source not in names:
                    break
                tried.add(exc.source)
                continue
            with closing(answer):
                if answer.asked in tried:
                    break
                tried.add(answer.asked)
                try:
                    manifest = await _parsed(answer, length_bytes or None)
                except (ManifestError, UpstreamError) as exc:
                    word = _refused("refused", answer.asked, exc) if isinstance(exc, ManifestError) else word
                    failed = failed or (isinstance(exc, UpstreamError) and exc.retryable)
                    continue
            try:
                trust = judge_manifest(manifest, await claims)
            except ManifestError as exc:
                word = _refused("contradicts", answer.asked, exc)
                continue
            self._meter.manifest(trust.word)
            return Metadata(manifest, trust)
        self._meter.manifest(word)
        self._absent.keep(target.key, bool(failed), self._clock.monotonic_s() + self._negative_s)
        return replace(NOTHING, unknown=bool(failed))


def _refused(word: str, source: str, error: ManifestError) -> str:
    """Say in the log why a manifest is not used; ``word`` is the label in metrics, given back."""
    event(_log, "manifest_refused", severity=logging.WARNING, source=source, result=word, reason=str(error))
    return word


async def _parsed(answer: UpstreamAnswer, length_bytes: int | None) -> Manifest:
    """The manifest in an answer's body. Raises ManifestError, UpstreamError."""
    if answer.status != 200:
        raise OriginStatus(answer.status, answer.fields, source=answer.source)
    chunks, size = [], 0
    while data := await answer.read():
        chunks.append(data)
        size += len(data)
        if size > MAX_MANIFEST_BYTES:
            raise ManifestError("manifest is too large")
    return parse_manifest(b"".join(chunks), length_bytes=length_bytes)
