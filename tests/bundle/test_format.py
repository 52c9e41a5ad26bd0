"""The bundle's framing and headers as hostile bytes: everything decodes to what was encoded, or is a BundleError."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.bundle import format as fmt
from cacheserver.bundle.header import (
    BundledObject,
    decode_metadata,
    encode_header,
    shown_name,
)
from cacheserver.core.cache.representation import Representation
from cacheserver.core.errors import BundleError
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.core.integrity.trust import Trust
from cacheserver.core.request.keys import object_id

PIECE = 1 << 20
segments = st.text(st.sampled_from("abcXYZ019-_~"), min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
fields = st.lists(st.tuples(st.sampled_from(["Content-Type", "Date", "X-Own", "Set-Cookie"]), values), max_size=5)


@st.composite
def bundled_objects(draw: st.DrawFn) -> BundledObject:
    """Objects as an exporter makes them."""
    piece_bytes = draw(st.sampled_from([1 << 16, PIECE, 1 << 24]))
    length = draw(st.integers(0, 5 * piece_bytes))
    count = -(-length // piece_bytes)
    digests = b"".join(hashlib.sha256(bytes((number,))).digest() for number in range(count))
    vary = draw(st.sampled_from([(), ("accept",), ("accept", "accept-language")]))
    path, query = "/".join(draw(st.lists(segments, max_size=4))), draw(st.sampled_from(["", "?a=b"]))
    key = f"own\n*\ncdn.example.test\n/{path}\n{query}"
    key += '\n[["accept","x\\ny"]]' if vary else ""
    representation = Representation(
        key=key,
        object_id=object_id(key),
        service="own",
        length_bytes=length,
        piece_size_bytes=piece_bytes,
        fields=Fields(draw(fields)),
        validators=Validators(draw(st.sampled_from([None, '"a"', 'W/"b"'])), draw(st.none() | values)),
        request_time_s=draw(st.floats(0, 1e9)),
        response_time_s=draw(st.floats(0, 1e9)),
        origin=draw(st.sampled_from(["http://cdn.example.test", "https://[2001:db8::1]:8443"])),
        path_and_query=draw(st.sampled_from(["", "/a%20b?c"])),
        vary=vary,
        combinable=draw(st.booleans()),
        invalidated=draw(st.booleans()),
        trust=draw(st.sampled_from(Trust)),
    )
    manifest = Manifest(length, PIECE, digests) if length and piece_bytes == PIECE else None
    return BundledObject(representation, digests, manifest)


def encoded(bundled: BundledObject) -> tuple[fmt.SectionHead, bytes]:
    header, phf = encode_header(bundled), bundled.phf
    length = bundled.representation.length_bytes
    head = fmt.SectionHead(len(header), len(phf), bundled.representation.piece_count, length)
    return head, header + phf + bundled.digests


@given(bundled_objects())
def test_objects_come_back_as_they_went(bundled: BundledObject) -> None:
    head, metadata = encoded(bundled)
    assert decode_metadata(head, metadata) == bundled
    again = fmt.decode_section_head(head.encode(), room_bytes=head.section_bytes)
    assert again == head
    assert again.metadata_bytes == len(metadata)


@given(bundled_objects(), st.data())
def test_changed_metadata_is_refused_or_decodes_but_never_breaks(bundled: BundledObject, data: st.DataObject) -> None:
    head, metadata = encoded(bundled)
    at = data.draw(st.integers(0, len(metadata) - 1))
    changed = metadata[:at] + data.draw(st.binary(min_size=1, max_size=3)) + metadata[at + 1 :]
    changed = changed[: len(metadata)].ljust(len(metadata), b" ")
    try:
        found = decode_metadata(head, changed)
    except BundleError:
        return
    assert found.representation.object_id == object_id(found.representation.key)
    assert found.manifest is None or found.manifest.piece_hashes == found.digests


@given(bundled_objects(), st.data())
def test_digest_binds_every_byte_of_the_metadata_and_the_bundle(bundled: BundledObject, data: st.DataObject) -> None:
    head, metadata = encoded(bundled)
    at = data.draw(st.integers(0, len(metadata) - 1))
    changed = metadata[:at] + bytes((metadata[at] ^ 1,)) + metadata[at + 1 :]
    right = head.digest_of(bytes(16), metadata)
    assert right != head.digest_of(bytes(16), changed)
    assert right != head.digest_of(bytes(15) + b"\x01", metadata)
    moved = fmt.SectionHead(head.header_bytes, head.phf_bytes, head.piece_count, head.body_bytes + 1)
    assert right != moved.digest_of(bytes(16), metadata)


@given(st.binary(max_size=200), st.integers(0, 2**64))
def test_random_bytes_are_only_ever_refused(data: bytes, number: int) -> None:
    for decode in (
        lambda: fmt.decode_file_head(data),
        lambda: fmt.decode_section_head(data, room_bytes=number),
        lambda: fmt.decode_tail(data, file_bytes=number),
        lambda: fmt.decode_contents(data, contents_offset=number),
        lambda: decode_metadata(fmt.SectionHead(len(data), 0, 0, 0), data),
    ):
        with pytest.raises(BundleError):
            decode()


@given(st.binary(min_size=fmt.SECTION_HEAD_BYTES - 8, max_size=fmt.SECTION_HEAD_BYTES - 8), st.integers(0, 1 << 40))
def test_section_that_is_accepted_fits_the_room(data: bytes, room_bytes: int) -> None:
    try:
        head = fmt.decode_section_head(b"CSBOBJCT" + data, room_bytes=room_bytes)
    except BundleError:
        return
    assert head.section_bytes <= room_bytes


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32))
def test_file_head_comes_back(bundle_id: bytes, key: bytes) -> None:
    head = fmt.FileHead(bundle_id, key)
    assert fmt.decode_file_head(head.encode()) == head
    assert head.signed == (key != bytes(32))


@pytest.mark.parametrize(
    ("trust", "signed", "expected"),
    [
        (Trust.SIMPLE, True, Trust.ANCHORED),
        (Trust.ANCHORED, True, Trust.ANCHORED),
        (Trust.SIMPLE, False, Trust.SIMPLE),
        (Trust.SELF_CONSISTENT, False, Trust.SELF_CONSISTENT),
        (Trust.ANCHORED, False, Trust.SELF_CONSISTENT),
    ],
)
def test_trust_of_an_imported_object(trust: Trust, signed: bool, expected: Trust) -> None:
    key = 'own\n*\nh.example\n/a%20b\n?q\n[["accept","x"]]'
    found = Representation(
        key=key,
        object_id=object_id(key),
        service="own",
        length_bytes=1,
        piece_size_bytes=PIECE,
        fields=Fields(),
        validators=Validators(),
        request_time_s=0,
        response_time_s=0,
        origin="http://h.example",
        vary=("accept",),
        trust=trust,
    )
    manifest = Manifest(1, PIECE, bytes(32))
    believed = BundledObject(found, bytes(32), manifest).believed(signed=signed)
    assert believed.trust is expected
    assert believed.hash_of_hashes == manifest.hash_of_hashes.hex()
    assert found.primary_key == "own\n*\nh.example\n/a%20b\n?q"
    assert shown_name(found) == "h.example/a%20b"
