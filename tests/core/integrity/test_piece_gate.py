"""A gate lets whole, right pieces through, whatever chunks they come in."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.errors import BadPiece, WrongContent
from cacheserver.core.integrity.piece_gate import PieceGate
from cacheserver.core.integrity.trust import Claim
from tests.support.content import blob
from tests.support.manifests import manifest_of

PIECE = 256
BODY = blob(31, 3 * PIECE + 77)
MANIFEST = manifest_of(BODY, PIECE)
RIGHT = Claim("name", authentic=True, sha1=hashlib.sha1(BODY).digest())


def passed(gate: PieceGate, body: bytes, chunk: int, *, announced: bool = True) -> bytes:
    """Everything that comes out, up to an error, which is raised with what came before it as its second argument."""
    out, rest = b"", b""
    chunks = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    try:
        while not gate.done:
            data = rest or (chunks.pop(0) if chunks else b"")
            if not data and not announced:
                gate.end()
            elif not data:
                break
            rest = data if gate.full else gate.take(data)
            if gate.full and (announced or rest or gate.last):
                out += gate.release()
    except (BadPiece, WrongContent) as exc:
        exc.args = (*exc.args, out)
        raise
    return out


@given(chunk=st.integers(1, 2 * PIECE), first=st.integers(0, 3))
def test_right_pieces_come_out_as_they_went_in(chunk: int, first: int) -> None:
    start = first * PIECE
    gate = PieceGate(start=start, length_bytes=len(BODY), piece_size_bytes=PIECE, manifest=MANIFEST)
    assert passed(gate, BODY[start:], chunk) == BODY[start:]
    assert gate.done


@given(at=st.integers(0, len(BODY) - 1), chunk=st.integers(1, 2 * PIECE))
def test_nothing_of_a_piece_with_a_wrong_byte_comes_out(at: int, chunk: int) -> None:
    wrong = bytearray(BODY)
    wrong[at] ^= 1
    gate = PieceGate(start=0, length_bytes=len(BODY), piece_size_bytes=PIECE, manifest=MANIFEST)
    with pytest.raises(BadPiece) as caught:
        passed(gate, bytes(wrong), chunk)
    assert caught.value.piece == at // PIECE
    assert caught.value.args[-1] == BODY[: at // PIECE * PIECE]
    assert gate.start == at // PIECE * PIECE


@given(chunk=st.integers(1, 2 * PIECE))
def test_no_more_than_one_piece_is_held(chunk: int) -> None:
    gate = PieceGate(start=0, length_bytes=None, piece_size_bytes=PIECE)
    assert len(gate.take(BODY[:chunk])) == max(0, chunk - PIECE)
    assert gate.offset == min(chunk, PIECE)
    assert gate.peek(0) == BODY[: min(chunk, PIECE)]


def test_a_piece_that_was_dropped_is_taken_anew() -> None:
    gate = PieceGate(start=PIECE, length_bytes=len(BODY), piece_size_bytes=PIECE, manifest=MANIFEST)
    gate.take(bytes(PIECE))
    with pytest.raises(BadPiece):
        gate.release()
    gate.drop()
    assert gate.offset == PIECE
    gate.take(BODY[PIECE : 2 * PIECE])
    assert gate.release() == BODY[PIECE : 2 * PIECE]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", [1, PIECE, PIECE + 1, 3 * PIECE])
@given(chunk=st.integers(1, 2 * PIECE))
def test_the_last_piece_of_a_wrong_whole_is_kept_back(announced: bool, size: int, chunk: int) -> None:
    body = BODY[:size]
    right = Claim("name", authentic=True, sha1=hashlib.sha1(body).digest())
    length = size if announced else None
    gate = PieceGate(start=0, length_bytes=length, piece_size_bytes=PIECE, claims=(right,))
    assert passed(gate, body, chunk, announced=announced) == body
    gate = PieceGate(start=0, length_bytes=length, piece_size_bytes=PIECE, claims=(right,))
    with pytest.raises(WrongContent, match="name") as caught:
        passed(gate, bytes([body[0] ^ 1]) + body[1:], chunk, announced=announced)
    assert len(caught.value.args[-1]) == (size - 1) // PIECE * PIECE


def test_every_claim_counts() -> None:
    wrong = Claim("digest_field", authentic=False, md5=bytes(16))
    gate = PieceGate(start=0, length_bytes=len(BODY), piece_size_bytes=PIECE, manifest=MANIFEST, claims=(RIGHT, wrong))
    with pytest.raises(WrongContent, match="digest_field"):
        passed(gate, BODY, PIECE)


def test_a_part_says_nothing_of_the_whole() -> None:
    with pytest.raises(AssertionError, match="whole"):
        PieceGate(start=PIECE, length_bytes=len(BODY), piece_size_bytes=PIECE, claims=(RIGHT,))


@pytest.mark.parametrize("right", [True, False])
def test_an_empty_content_is_judged_as_any_other(right: bool) -> None:
    claim = Claim("name", authentic=True, sha1=hashlib.sha1(b"" if right else BODY).digest())
    gate = PieceGate(start=0, length_bytes=0, piece_size_bytes=PIECE, claims=(claim,))
    assert not gate.done
    if right:
        assert gate.release() == b""
        assert gate.done
    else:
        with pytest.raises(WrongContent):
            gate.release()


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("size", [1 << 14, 1 << 15, 1 << 20])
def test_a_hash_of_hashes_without_its_manifest_is_compared_with_the_whole(size: int, wrong: bool) -> None:
    body = blob(32, 50_000)
    said = Claim("catalogue", authentic=True, hash_of_hashes=manifest_of(body, size).hash_of_hashes)
    gate = PieceGate(start=0, length_bytes=len(body), piece_size_bytes=PIECE, claims=(said,))
    if not wrong:
        assert passed(gate, body, 1000) == body
        return
    with pytest.raises(WrongContent):
        passed(gate, body[:-1] + bytes((body[-1] ^ 1,)), 1000)


@pytest.mark.parametrize("at", [0, PIECE - 1, 3 * PIECE + 76])
def test_a_piece_is_compared_with_every_smaller_piece_of_a_manifest(at: int) -> None:
    def gate() -> PieceGate:
        manifest = manifest_of(BODY, PIECE // 4)
        return PieceGate(start=0, length_bytes=len(BODY), piece_size_bytes=PIECE, manifest=manifest)

    assert passed(gate(), BODY, 99) == BODY
    spoilt = bytearray(BODY)
    spoilt[at] ^= 1
    with pytest.raises(BadPiece):
        passed(gate(), bytes(spoilt), 99)
