"""Catalogue rows as bytes: everything comes back, nothing else is accepted."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.errors import CorruptObject
from cacheserver.store.catalogue.record import MAX_BYTES, CatalogueRecord

NUMBERS = st.integers(0, MAX_BYTES - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
RECORDS = st.builds(CatalogueRecord, NUMBERS, NUMBERS, st.booleans(), NAMES, st.lists(NAMES, max_size=5).map(tuple))


@given(record=RECORDS)
def test_record_comes_back_as_it_was(record: CatalogueRecord) -> None:
    assert CatalogueRecord.decode(record.encode()) == record


@given(record=RECORDS, data=st.data())
def test_damaged_row_is_corrupt(record: CatalogueRecord, data: st.DataObject) -> None:
    row = bytearray(record.encode())
    if data.draw(st.booleans()):
        del row[data.draw(st.integers(0, len(row) - 1)) :]
    else:
        row[data.draw(st.integers(0, len(row) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptObject):
        CatalogueRecord.decode(bytes(row))


def signed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def head(version: int = 1, flags: int = 0, names: int = 0, service: int = 0, length: int = 0, stored: int = 0) -> bytes:
    return bytes([version, flags, names, service]) + length.to_bytes(8, "little") + stored.to_bytes(8, "little")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(head(version=2), id="another version"),
        pytest.param(head(flags=2), id="unknown flag"),
        pytest.param(head(length=MAX_BYTES), id="length out of range"),
        pytest.param(head(stored=MAX_BYTES), id="stored bytes out of range"),
        pytest.param(head() + b"x", id="bytes left over"),
        pytest.param(head(service=2) + b"x", id="service cut short"),
        pytest.param(head(service=2) + b"\xff\xfe", id="service that is no UTF-8"),
        pytest.param(head(names=1), id="name missing"),
        pytest.param(head(names=1) + b"\x05ab", id="name cut short"),
        pytest.param(head(names=255), id="names far beyond the end"),
        pytest.param(head(names=1) + b"\x01\xff", id="name that is no UTF-8"),
    ],
)
def test_well_signed_nonsense_is_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptObject):
        CatalogueRecord.decode(signed(body))


def test_checksum_is_never_read_as_part_of_the_service() -> None:
    for letter in b"abcdefghijklmnopqrstuvwxyz":
        with pytest.raises(CorruptObject, match="length"):
            CatalogueRecord.decode(signed(head(service=2) + bytes([letter])))


@pytest.mark.parametrize(
    "record",
    [
        CatalogueRecord(-1, 0, True, "s"),
        CatalogueRecord(0, -1, True, "s"),
        CatalogueRecord(MAX_BYTES, 0, True, "s"),
        CatalogueRecord(0, MAX_BYTES, True, "s"),
        CatalogueRecord(0, 0, True, "s" * 256),
        CatalogueRecord(0, 0, True, "s", ("v" * 256,)),
        CatalogueRecord(0, 0, True, "s", ("v",) * 256),
    ],
)
def test_what_the_format_cannot_hold_is_refused(record: CatalogueRecord) -> None:
    with pytest.raises(ValueError):
        record.encode()


def test_names_of_255_bytes_and_255_of_them_can_be_held() -> None:
    record = CatalogueRecord(0, 0, True, "s" * 255, ("v" * 255,) * 255)
    assert CatalogueRecord.decode(record.encode()) == record
