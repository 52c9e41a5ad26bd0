"""A gate for bytes on their way from a source to a client: each piece goes on only once it is right.

Owns: collecting the piece in hand, at most one, and judging it: against a manifest, and the last one with the digests
of the whole content where the whole goes through. Pure; hashing takes about a millisecond per MiB, so that callers
run ``release`` in a thread. I1.
"""

from __future__ import annotations

import hashlib

from cacheserver.core.errors import BadPiece, WrongContent
from cacheserver.core.integrity.manifest import Manifest
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
        self.done = length_bytes is not None and start >= length_bytes
        """Whether the last piece was handed out."""
        self._length_bytes = length_bytes
        self._piece_size_bytes = piece_size_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._ended = False
        names = {name for claim in claims for name in claim.whole_digests}
        self._digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}

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
        stop = self.start + self._piece_size_bytes
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
        piece = self.start // self._piece_size_bytes
        if self.manifest is not None and hashlib.sha256(data).digest() != self.manifest.piece_hash(piece):
            raise BadPiece(piece)
        for digest in self._digests.values():
            digest.update(data)
        if self.last:
            self._judge_whole()
            self.done = True
        self.start += len(data)
        self.drop()
        return data

    def drop(self) -> None:
        """Forget the piece in hand, to take it again."""
        self._held.clear()
        self._held_bytes = 0

    def _judge_whole(self) -> None:
        found = {name: digest.digest() for name, digest in self._digests.items()}
        for claim in self.claims:
            if any(found[name] != digest for name, digest in claim.whole_digests.items()):
                raise WrongContent(claim.anchor)
