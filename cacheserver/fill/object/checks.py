"""Holding the pieces of one object against its metadata: piece by piece with a manifest, as a whole with a digest.

Owns: what happens when metadata comes, what a wrong whole leads to, the label of trust. The last missing piece of an
object that is judged as a whole is neither shown nor stored before the whole is right (I1). Must not fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from cacheserver.core.errors import CacheserverError, GenerationChanged, StoreError, WrongContent
from cacheserver.core.integrity.blame import Evidence, piece_evidence, whole_evidence
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.release import Facts, Reason, Said, Verdict, decide
from cacheserver.core.integrity.stored_trust import fingerprint
from cacheserver.core.integrity.trust import Claim, Trust
from cacheserver.core.piece_map import ABSENT
from cacheserver.core.request.service import Service
from cacheserver.fill.context import FillContext
from cacheserver.fill.metadata import Metadata
from cacheserver.fill.object.claims import Progress
from cacheserver.fill.object.larger_pieces import LargerPieces
from cacheserver.fill.object.metadata_state import MetadataState
from cacheserver.fill.object.whole_digest import WholeDigest
from cacheserver.fill.refused_content import note_refused
from cacheserver.store.object.rebuilt_manifest import claims_of_pieces
from cacheserver.store.stored_object import StoredObject


class PieceChecks:
    """The checks of one object; ``abandon`` makes the object obsolete and tells who waits for it."""

    def __init__(
        self,
        obj: StoredObject,
        service: Service,
        context: FillContext,
        *,
        metadata: MetadataState,
        progress: Progress,
        abandon: Callable[[CacheserverError], Awaitable[None]],
        on_idle: Callable[[], None],
    ) -> None:
        self._sources: set[str] = {""} if obj.pieces.stored_bytes else set()
        """Sources of all pieces; an empty name stands for those of pieces that were here before."""
        self._obj = obj
        self._service = service
        self._store, self._asker, self._meter = context.store, context.asker, context.meter
        self._metadata = metadata
        self._progress = progress
        self._abandon = abandon
        self.larger = LargerPieces(obj, context.store, progress)
        self.whole = WholeDigest(obj, context.store, on_idle=on_idle)
        self._whole_checked = False
        self._recorded: bytes | None = None
        """Digest that the piece in hand had when it was stored before; found bad at rest, it is fetched again."""
        self._earned = Trust.SIMPLE
        self._commits = asyncio.Lock()
        """Of two flights that finish the last two pieces one is the last: check and commit are one step."""
        self._settled = asyncio.Event()
        self._stopping = False
        self._unsure: set[int] = set()
        """Pieces that were stored while a manifest was late: compared when it comes."""
        if not metadata.pending:
            self._guard()

    @property
    def trust(self) -> Trust:
        """The level at which pieces are being checked."""
        metadata = self._metadata.known
        return Trust.SIMPLE if metadata is None or self._metadata.manifest is None else metadata.trust

    # -- a piece that is complete ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def finishing(self, piece: int, *, patience_s: float) -> AsyncIterator[None]:
        """Around the checks and the commit of a complete piece, which waits for metadata for at most ``patience_s``.

        The last piece waits until all metadata was weighed.
        """
        await self._metadata.wait(patience_s)
        while True:
            await self._commits.acquire()
            if self._may_finish(piece):
                break
            self._commits.release()
            await self._settled.wait()
        try:
            self._recorded = await self._record_of(piece)
            yield
        finally:
            self._commits.release()

    async def _record_of(self, piece: int) -> bytes | None:
        if piece not in self._obj.kept_digests:
            return None
        digest = await self._store.run(self._obj.volume, self._obj.file.digest_of, piece)
        if digest is None:  # the record is gone too, and with it what the piece must be
            self._obj.kept_digests.discard(piece)
            known = self._metadata.known
            if known is not None and self._metadata.manifest is None:
                await self._lose_trust(known)
        return digest

    def _may_finish(self, piece: int) -> bool:
        """Whether a complete piece that has waited for metadata waits no longer."""
        said = Said.NOTHING if self._settled.is_set() else Said.PENDING
        last = self._obj.pieces.only_missing(piece)
        facts = Facts(piece=said, last=last, overdue=True, stopping=self._stopping)
        return decide(facts).verdict is Verdict.RELEASE

    async def is_right(self, piece: int, digest: bytes) -> bool:
        """Whether a complete, written piece is what the manifest says, else its record, or neither is known.

        NoSource, StoreError.
        """
        known = self._metadata.known
        said = Said.PENDING if known is None else Said.UNREACHABLE if known.blocked else Said.NOTHING
        if known is not None and said is Said.NOTHING and self._metadata.manifest is not None:
            said = await self._compared(piece, digest, self._metadata.manifest)
        elif said in (Said.PENDING, Said.NOTHING) and self._recorded is not None:
            said = self._said(self._recorded == digest, self._obj.representation.trust)
        rule = decide(Facts(piece=said, overdue=True, shown=self._progress.is_shown(piece)))
        if rule.verdict is Verdict.REFUSE and known is not None:
            known.refuse_blocked(self._meter, self._obj.object_id)
        if rule.verdict is not Verdict.RELEASE:
            self._meter.content_refused(rule.reason.value)
        elif rule.reason is Reason.LATE:
            await self._note_late()
        return rule.verdict is Verdict.RELEASE

    async def _note_late(self) -> None:
        """A piece is stored that was not compared: the object says so first, as a kill leaves what it says."""
        known = self._obj.representation
        late = replace(known, trust=Trust.SIMPLE, hash_of_hashes=None, unsettled=True)
        if late != known:
            await self._store.refresh(self._obj, late)

    async def _compared(self, piece: int, digest: bytes | None, manifest: Manifest) -> Said:
        """What a manifest says of a written piece with this SHA-256, or of its group, all of which is written."""
        group, size = self._progress.group(piece), manifest.piece_size_bytes
        span = self._obj.pieces.bounds(group[0])[0], self._obj.pieces.bounds(group[-1])[1]
        if size != self._obj.pieces.piece_size_bytes:
            digest = await self._store.run(self._obj.volume, self._obj.file.digests_of, *span, size)
        return self._said(digest == manifest.hashes_of(*span), self.trust)

    def _said(self, good: bool, trust: Trust) -> Said:
        self._meter.verified(trust.word, "ok" if good else "bad")
        return Said.AGREES if good else Said.CONTRADICTS

    def evidence(self, piece: int, sources: set[str]) -> Evidence:
        """What a piece of ``sources`` that is not right is evidence of."""
        trust = max(self.trust, self._obj.representation.trust)
        return piece_evidence(trust, self.larger.sources(piece, sources))

    async def begin_anew(self, piece: int, flight: object) -> int:
        """A written piece is not right: ``flight`` goes on at the piece that is given, and so does all of its group."""
        first = self.larger.begin_anew(piece, flight)
        for other in self._progress.group(piece):
            if self._obj.pieces.state(other) != ABSENT:  # which one is bad, nobody knows
                await self._condemn(other)
        return first

    async def commit_group(self, piece: int) -> None:
        """Store what was waiting for ``piece``. StoreError."""
        self._sources |= self.larger.sources(piece, set())
        for other in await self.larger.commit(piece):
            await self.committed(other)

    async def check_last(self, piece: int, sources: set[str]) -> None:
        """Judge the whole before its last missing piece, which is written, is stored; nothing for any other piece.

        ``sources`` gave the piece. WrongContent, with the object abandoned and a sole source struck; StoreError when
        it cannot be read.
        """
        self._sources |= sources
        if not self._progress.guards(piece):
            return
        claims = self._metadata.of_whole
        found = await self.whole.finish(piece)
        if found is not None:
            self._earned = await self._judge(claims, found, piece)
            self._whole_checked = True

    async def committed(self, piece: int) -> None:
        """A piece was stored."""
        if self._metadata.pending:
            self._unsure.add(piece)
        if self._progress.guarding:
            self.whole.note(piece)
        if self._earned > self._obj.representation.trust:
            await self._note_trust(self._earned, self._obj.representation.hash_of_hashes)

    # -- metadata -------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether all that can be learnt was weighed."""
        return self._settled.is_set()

    def doubt(self) -> None:
        """Metadata is asked for again; ``settle`` ends it."""
        self._settled.clear()
        self._whole_checked = False
        self._progress.guarding = True

    async def settle(self, metadata: Metadata) -> None:
        """Metadata has come, or none will: check what is stored already, release what was held."""
        self._metadata.settle(metadata)
        if self._metadata.holds:
            self._progress.hold(self._metadata.group_pieces)
        try:
            async with self._commits:
                pass  # pieces that were found good without this metadata are stored by now, and seen below
            if self._metadata.manifest is not None:
                await self._recheck(metadata, self._metadata.manifest)
            elif not metadata.blocked:
                if not self._obj.pieces.complete:
                    await self._lose_trust(metadata)
                self._progress.stop_holding()
                await self._note_trust(self._obj.representation.trust, self._obj.representation.hash_of_hashes)
        finally:
            self._unsure.clear()
            self._guard()
        await self.check_whole()

    async def stop(self) -> None:
        """The node stops while metadata may still come: what was not compared with it does not stay."""
        self._stopping = True
        for piece in self._unsure:
            try:
                await self._store.erase(self._obj, piece)
            except StoreError as exc:
                await self._abandon(exc)
                return

    def _guard(self) -> None:
        """All that can be learnt is known: go on holding the last piece back where it is judged with the whole."""
        self._settled.set()
        claims = self._metadata.of_whole
        if claims:
            self.whole.begin(sorted({name for claim in claims for name in claim.whole_digests}))
        else:
            self._progress.stop_guarding()

    async def _lose_trust(self, metadata: Metadata) -> None:
        """What comes now is checked against nothing: no label, and no place here if the service demands one.

        Nor beside pieces that a statement has let through which is made no more: another source may have others under
        the same tag. Nothing is lost where every missing piece is to have the digest that it had when it was judged.
        """
        count, kept = len(self._obj.pieces), self._obj.kept_digests
        if all(piece in kept for piece in self._obj.pieces.pieces_in_state(0, count, ABSENT)):
            return
        known = self._obj.representation
        rule = decide(Facts(require=self._service.require, authentic=metadata.anchored))
        if rule.verdict is Verdict.REFUSE:
            note_refused(self._meter, rule.reason, object_id=self._obj.object_id)
            await self._abandon(GenerationChanged("the content is anchored no more"))
        elif known.trust is Trust.ANCHORED and known.statements and not (metadata.anchored or metadata.unknown):
            await self._abandon(GenerationChanged("what was said of the content is said no more"))
        await self._note_trust(Trust.SIMPLE, None)

    async def _recheck(self, metadata: Metadata, manifest: Manifest) -> None:
        """Hold the digests of pieces that were stored before the manifest came against it."""
        for first in range(0, len(self._obj.pieces), self._progress.group_pieces):
            group = self._progress.group(first)
            stored = [piece for piece in group if self._obj.pieces.state(piece) != ABSENT]
            if len(group) > 1:
                good = len(stored) == len(group) and await self._is_right_at_rest(first, manifest)
                for piece in () if good else stored:  # of an incomplete group nothing can be compared
                    await self._condemn(piece)
            elif (stored or first in self._obj.kept_digests) and not await self._is_right_at_rest(first, manifest):
                if first in self._progress.claims:
                    self._obj.kept_digests.discard(first)  # it is being fetched, and held against the manifest
                else:
                    await self._condemn(first)
        await self._note_trust(metadata.trust, manifest.hash_of_hashes.hex())

    async def _is_right_at_rest(self, piece: int, manifest: Manifest) -> bool:
        recorded = await self._store.run(self._obj.volume, self._obj.file.digest_of, piece)
        rule = decide(Facts(piece=await self._compared(piece, recorded, manifest), stored=True))
        if rule.verdict is Verdict.CONDEMN:
            self._meter.content_refused(rule.reason.value)
        return rule.verdict is not Verdict.CONDEMN

    async def _condemn(self, piece: int) -> None:
        """Take a bad piece out of service; with its whole object where its record cannot be removed."""
        self._progress.claim(piece, piece + 1, self)  # no flight fetches it before its record is gone
        try:
            await self._store.erase(self._obj, piece)
        except StoreError as exc:
            await self._abandon(exc)
            raise
        finally:
            self._progress.release(self, None)
            self._progress.reject(piece, seen=True)

    async def _note_trust(self, trust: Trust, hash_of_hashes: str | None) -> None:
        known, metadata = self._obj.representation, self._metadata.known
        if metadata is None or self._obj.obsolete:
            return
        noted = replace(known, trust=trust, hash_of_hashes=hash_of_hashes, unsettled=metadata.unknown)
        if noted != known:
            await self._store.refresh(self._obj, replace(noted, statements=fingerprint(metadata.claims)))

    # -- the whole ------------------------------------------------------------------------------------------------

    async def check_whole(self) -> None:
        """Judge an object that is complete and was not judged with its last piece; a wrong one is abandoned."""
        claims, condemned = self._metadata.of_whole, len(self._obj.condemned)
        if not claims or self._whole_checked or not self._obj.pieces.complete or self._obj.obsolete:
            return
        self._whole_checked = True
        names = sorted({name for claim in claims for name in claim.whole_digests})
        try:
            found = await self._store.whole_digests(self._obj, names) if names else {}
            if len(self._obj.condemned) > condemned or not self._obj.pieces.complete:
                self._whole_checked = False  # a piece went while they were read
                return
            level = await self._judge(claims, found)
        except WrongContent:
            return
        if level > self._obj.representation.trust:
            await self._note_trust(level, self._obj.representation.hash_of_hashes)

    async def _judge(self, claims: Sequence[Claim], found: dict[str, bytes], last: int | None = None) -> Trust:
        """The level that the whole has earned; ``last`` is written, not stored.

        WrongContent, with nothing kept and nothing more to read.
        """
        levels = [Trust.SIMPLE]
        for claim in claims:
            good = all(found[name] == digest for name, digest in claim.whole_digests.items())
            if good and claim.states_pieces:
                good = bool(await self._store.run(self._obj.volume, claims_of_pieces, self._obj.file, [claim], last))
            rule = decide(Facts(whole=Said.AGREES if good else Said.CONTRADICTS))
            levels.append(Trust.ANCHORED if claim.authentic else Trust.SELF_CONSISTENT)
            self._meter.verified(levels[-1].word, "ok" if good else "bad")
            if rule.verdict is Verdict.REFUSE:
                note_refused(self._meter, rule.reason, object_id=self._obj.object_id)
                evidence = whole_evidence(claim, self._sources)
                self._asker.blame(min(self._sources, default=""), evidence, self._obj.object_id)
                error = WrongContent(claim.anchor)
                for piece in range(len(self._obj.pieces)):
                    self._obj.condemn(piece)  # its readers are cut where they are
                await self._abandon(error)
                raise error
        return max(levels)
