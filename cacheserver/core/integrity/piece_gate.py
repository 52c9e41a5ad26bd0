"""A gate for bytes on their way from a source to a client: each piece goes on only once it is right.

Owns: collecting the piece in hand, at most one, and judging it: against a manifest, and the last one with the digests
of the whole content where the whole goes through. Pure; hashing takes about a millisecond per MiB, so that callers
run ``release`` in a thread. I1.
"""

from __future__ import annotations

import hashlib

from cacheserver.core.errors import BadPiece, WrongContent
from cacheserver.core.integrity.manifest import PIECE_SIZES, Manifest
from cacheserver.core.integrity.release import Facts, Said, Verdict, decide
from cacheserver.core.integrity.trust import Claim


class PieceGate:
    """Bytes of one content from ``start``, the first byte of a piece, on.

    ``length_bytes`` is the content's, None where only the end of the body tells it. ``claims`` are what the whole
    content must be, and make sense only where everything from byte 0 on goes through. After an error of ``release``
    the piece in hand can be dropped and taken anew.
    """

    def __init__(
        self,
        *,
        start: int,
        length_bytes: int | None,
        piece_size_bytes: int,
        manifest: Manifest | None = None,
        claims: tuple[Claim, ...] = (),
    ) -> None:
        assert start % piece_size_bytes == 0, "a gate begins at a piece"
        assert not claims or start == 0, "a part says nothing of the whole"
        self.start = start
        """First byte of the piece in hand: everything before it was handed out."""
        self.claims = claims
        self.manifest = manifest
        self.done = bool(length_bytes) and start >= (length_bytes or 0)
        """Whether the last piece was handed out; that of an empty content is empty, and judged as any other."""
        self._length_bytes = length_bytes
        self.piece_size_bytes = piece_size_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._ended = False
        names = {name for claim in claims for name in claim.whole_digests}
        self._digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self._own_pieces = PieceHashes() if any(claim.states_pieces for claim in claims) else None

    @property
    def offset(self) -> int:
        """The next byte that it wants."""
        return self.start + self._held_bytes

    @property
    def full(self) -> bool:
        """Whether the piece in hand is complete."""
        return self._ended or self.offset >= self._piece_stop

    @property
    def last(self) -> bool:
        """Whether the piece in hand is the content's last one."""
        return self._ended or self._piece_stop == self._length_bytes

    @property
    def _piece_stop(self) -> int:
        stop = self.start + self.piece_size_bytes
        return stop if self._length_bytes is None else min(stop, self._length_bytes)

    def take(self, data: bytes) -> bytes:
        """Add bytes at ``offset`` to the piece in hand; what does not belong to it is given back."""
        room = self._piece_stop - self.offset
        kept = data[:room]
        if kept:
            self._held.append(kept)
            self._held_bytes += len(kept)
        return data[room:]

    def end(self) -> None:
        """The source has no more, which tells the length of a content that nobody had announced."""
        assert self._length_bytes is None, "a known length is not told by the end"
        self._ended = True

    def peek(self, offset: int) -> bytes:
        """What is held of the piece in hand from ``offset`` on, unchecked."""
        return b"".join(self._held)[offset - self.start :]

    def release(self) -> bytes:
        """Hand out the full piece in hand and go on to the next. BadPiece; WrongContent with the last piece."""
        assert self.full, "a piece is judged when it is complete"
        data = b"".join(self._held)
        self._judge_piece(data)
        for digest in self._digests.values():
            digest.update(data)
        if self._own_pieces is not None:
            self._own_pieces.update(data)
        if self.last:
            self._judge_whole()
            self.done = True
        self.start += len(data)
        self.drop()
        return data

    def _judge_piece(self, data: bytes) -> None:
        """Hold the piece in hand against the manifest, of which it has one piece or several."""
        if self.manifest is None or not data:
            return
        size = self.manifest.piece_size_bytes
        found = b"".join(hashlib.sha256(data[at : at + size]).digest() for at in range(0, len(data), size))
        good = found == self.manifest.hashes_of(self.start, self.start + len(data))
        facts = Facts(piece=Said.AGREES if good else Said.CONTRADICTS)
        if decide(facts).verdict is not Verdict.RELEASE:
            raise BadPiece(self.start // self.piece_size_bytes)

    def drop(self) -> None:
        """Forget the piece in hand, to take it again."""
        self._held.clear()
        self._held_bytes = 0

    def _judge_whole(self) -> None:
        found = {name: digest.digest() for name, digest in self._digests.items()}
        for claim in self.claims:
            good = all(found[name] == digest for name, digest in claim.whole_digests.items())
            good = good and (self._own_pieces is None or self._own_pieces.are_of(claim))
            if decide(Facts(whole=Said.AGREES if good else Said.CONTRADICTS)).verdict is Verdict.REFUSE:
                raise WrongContent(claim.anchor)


class PieceHashes:
    """SHA-256 of all pieces of a content that goes by, for each size that they may have."""

    def __init__(self) -> None:
        self._length_bytes = 0
        self._done = {size: bytearray() for size in PIECE_SIZES}
        self._running = {size: hashlib.sha256() for size in PIECE_SIZES}

    def update(self, data: bytes) -> None:
        """The next bytes."""
        for size, done in self._done.items():
            at, position = 0, self._length_bytes
            while at < len(data):
                part = data[at : at + size - position % size]
                self._running[size].update(part)
                at, position = at + len(part), position + len(part)
                if position % size == 0:
                    done += self._running[size].digest()
                    self._running[size] = hashlib.sha256()
        self._length_bytes += len(data)

    def are_of(self, claim: Claim) -> bool:
        """Whether all that has gone by is what a hash of hashes says, or ``claim`` has none."""
        if not claim.states_pieces:
            return True
        return any(claim.agrees_with(self._manifest(size)) for size in PIECE_SIZES)

    def _manifest(self, size: int) -> Manifest:
        rest = self._running[size].digest() if self._length_bytes % size else b""
        return Manifest(self._length_bytes, size, bytes(self._done[size]) + rest)
