"""The format of an object file: whatever was damaged is missed or refused, never taken for something else."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import CorruptObject
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.store.object import layout as fmt
from tests.support.stored import PIECE, representation

GENERATION = bytes(range(16))
REP = representation()
LAYOUT = fmt.layout_for(REP, GENERATION)
DIGEST = hashlib.sha256(b"piece").digest()
TEXT = st.text(st.characters(codec="latin-1"), max_size=20)


def damaged(data: bytes) -> list[bytes]:
    """``data`` with one byte changed, each byte in two ways."""
    return [data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :] for at in range(len(data)) for mask in (0x01, 0xFF)]


def decoded_prologue(data: bytes) -> fmt.Layout:
    return fmt.decode_prologue(data, footer_offset=LAYOUT.footer_offset, file_bytes=LAYOUT.file_bytes)


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 24))
def test_the_parts_of_a_file_follow_one_another_without_overlap(length: int, piece_size: int) -> None:
    layout = fmt.layout_for(replace(REP, length_bytes=length, piece_size_bytes=piece_size), GENERATION)
    assert length <= layout.footer_offset < length + fmt.PAGE_BYTES
    assert layout.footer_offset % fmt.PAGE_BYTES == 0
    assert layout.record_offset(0) == layout.footer_offset + fmt.PROLOGUE_BYTES
    assert layout.slot_offset(0) == layout.record_offset(0) + layout.piece_count * fmt.RECORD_BYTES
    assert layout.slot_offset(1) == layout.slot_offset(0) + layout.slot_bytes
    assert layout.file_bytes == layout.slot_offset(1) + layout.slot_bytes + fmt.TAIL_BYTES
    assert layout.footer_bytes == fmt.on_disk(layout.file_bytes - layout.footer_offset)
    assert layout.whole_bytes == layout.footer_offset + layout.footer_bytes


def test_a_prologue_comes_back_as_it_was_written() -> None:
    assert decoded_prologue(fmt.encode_prologue(LAYOUT)) == LAYOUT


@pytest.mark.parametrize("length", [0, 1, PIECE, PIECE + 1])
def test_the_prologue_of_any_length_comes_back(length: int) -> None:
    layout = fmt.layout_for(replace(REP, length_bytes=length), GENERATION)
    data = fmt.encode_prologue(layout)
    assert fmt.decode_prologue(data, footer_offset=layout.footer_offset, file_bytes=layout.file_bytes) == layout


def test_every_damaged_byte_of_a_prologue_is_noticed() -> None:
    for data in damaged(fmt.encode_prologue(LAYOUT)):
        with pytest.raises(CorruptObject):
            decoded_prologue(data)


@pytest.mark.parametrize(("offset", "size"), [(4096, 0), (-4096, 0), (0, 1), (0, -1)])
def test_a_prologue_that_does_not_fit_its_file_is_refused(offset: int, size: int) -> None:
    with pytest.raises(CorruptObject):
        fmt.decode_prologue(
            fmt.encode_prologue(LAYOUT),
            footer_offset=LAYOUT.footer_offset + offset,
            file_bytes=LAYOUT.file_bytes + size,
        )


def test_a_short_prologue_is_refused() -> None:
    with pytest.raises(CorruptObject):
        decoded_prologue(fmt.encode_prologue(LAYOUT)[:-1])


def test_every_damaged_byte_of_a_tail_is_noticed_or_points_elsewhere() -> None:
    tail = fmt.encode_tail(LAYOUT)
    assert fmt.decode_tail(tail) == LAYOUT.footer_offset
    for data in (*damaged(tail), tail[:-1], b""):
        try:
            offset = fmt.decode_tail(data)
        except CorruptObject:
            continue
        assert offset != LAYOUT.footer_offset
        with pytest.raises(CorruptObject):
            fmt.decode_prologue(fmt.encode_prologue(LAYOUT), footer_offset=offset, file_bytes=LAYOUT.file_bytes)


def test_a_damaged_record_is_absent_and_never_another_digest() -> None:
    record = fmt.encode_record(LAYOUT, 2, DIGEST)
    assert fmt.decode_record(LAYOUT, 2, record) == DIGEST
    for data in (*damaged(record), record[:-1], b""):
        assert fmt.decode_record(LAYOUT, 2, data) in (None, DIGEST)
    changed = [data for data in damaged(record) if fmt.decode_record(LAYOUT, 2, data) is not None]
    assert len(changed) == 2 * 3, "only the three padding bytes say nothing"


def test_a_record_counts_for_its_own_piece_and_generation_only() -> None:
    record = fmt.encode_record(LAYOUT, 2, DIGEST)
    assert fmt.decode_record(LAYOUT, 1, record) is None
    assert fmt.decode_record(replace(LAYOUT, generation=bytes(16)), 2, record) is None


def test_an_absent_record_stays_absent_whatever_byte_is_damaged() -> None:
    for blank in (bytes(fmt.RECORD_BYTES), fmt.encode_record(LAYOUT, 0, None)):
        assert fmt.decode_record(LAYOUT, 0, blank) is None
        assert all(fmt.decode_record(LAYOUT, 0, data) is None for data in damaged(blank))


def test_every_damaged_byte_of_a_slot_makes_it_invalid() -> None:
    slot = fmt.encode_slot(LAYOUT, REP, 7)
    assert slot is not None
    padded = slot + bytes(LAYOUT.slot_bytes - len(slot))
    assert fmt.decode_slot(LAYOUT, padded) == (7, REP)
    assert all(fmt.decode_slot(LAYOUT, data + padded[len(slot) :]) is None for data in damaged(slot))
    assert fmt.decode_slot(LAYOUT, slot[:-1]) is None
    assert fmt.decode_slot(LAYOUT, slot[:10]) is None
    assert fmt.decode_slot(LAYOUT, bytes(LAYOUT.slot_bytes)) is None


def test_a_slot_of_another_generation_or_length_is_not_taken() -> None:
    slot = fmt.encode_slot(LAYOUT, REP, 7)
    assert slot is not None
    assert fmt.decode_slot(replace(LAYOUT, generation=bytes(16)), slot) is None
    other = fmt.encode_slot(LAYOUT, replace(REP, length_bytes=REP.length_bytes + 1), 7)
    assert other is not None
    assert fmt.decode_slot(LAYOUT, other) is None


@given(
    st.lists(st.tuples(st.from_regex(r"[A-Za-z-]{1,10}", fullmatch=True), TEXT), max_size=5),
    st.one_of(st.none(), TEXT),
    st.one_of(st.none(), TEXT),
    st.booleans(),
    st.booleans(),
)
def test_any_representation_comes_back_as_it_was_written(
    lines: list[tuple[str, str]], etag: str | None, modified: str | None, combinable: bool, invalidated: bool
) -> None:
    rep = replace(
        REP,
        fields=Fields(lines),
        validators=Validators(etag, modified),
        vary=("accept", "origin"),
        combinable=combinable,
        invalidated=invalidated,
    )
    assert fmt.decode_header(fmt.encode_header(rep)) == rep


def test_a_header_that_has_outgrown_its_slot_is_not_encoded() -> None:
    assert fmt.encode_slot(LAYOUT, _with_field(900), 1) is not None
    assert fmt.encode_slot(LAYOUT, _with_field(3000), 1) is None


def test_a_header_too_large_for_any_slot_is_refused() -> None:
    with pytest.raises(CorruptObject):
        fmt.layout_for(_with_field(fmt.MAX_SLOT_BYTES), GENERATION)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b'{"key": 1}'])
def test_what_is_no_header_is_refused(payload: bytes) -> None:
    with pytest.raises(CorruptObject):
        fmt.decode_header(payload)


def _with_field(size: int) -> Representation:
    return replace(REP, fields=Fields((("X-Pad", "p" * size),)))


@pytest.mark.parametrize("slot_bytes", [0, fmt._SLOT.size, fmt.MAX_SLOT_BYTES + 1, (1 << 32) - 1])
def test_a_prologue_whose_slots_can_hold_no_header_or_are_too_large_is_refused(slot_bytes: int) -> None:
    layout = replace(LAYOUT, slot_bytes=slot_bytes)
    data = fmt.encode_prologue(layout)
    with pytest.raises(CorruptObject):
        fmt.decode_prologue(data, footer_offset=layout.footer_offset, file_bytes=layout.file_bytes)
