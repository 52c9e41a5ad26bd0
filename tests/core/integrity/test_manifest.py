"""Manifests: three known files, what is rebuilt byte for byte, and everything that is refused with one line."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.errors import ManifestError
from cacheserver.core.integrity.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest

MIB = 1 << 20
VECTORS = {
    "A": (244530, ["J/rmYNjGCeAgcDu0Y7ZgHmKBHcddsZl1vLfWjZWbUn0="], "bLR+YkW147Gf10YSrQ6lgW3AC9E1aDesK3TaSr0DHJA="),
    "B": (
        4642818,
        [
            "WXdd9JFACfSvd8pL4CzlApi6zSFcMZvaEco9C+Zcjgc=",
            "7ZyMYuVE3K+gFOLr9YJstAno6vzOeLxh5fLQ8mHKt4g=",
            "kEyeX2FsHicx3AN64BNqAbaPMG4N/4HoME4mYX4ahCk=",
            "r1xSeMQBrq4Lp/VMMEtdGRCLr9DzJrjW+T/yj/IBMt4=",
            "8rPNGdVaZxgYMQ9SkBnjIWZ9TbIHb9zfGnM7Ub8xtb0=",
        ],
        "aGZA/I8Lc2F+ZsPzrXhTrcZaVte+PexJ5cOai52WjpQ=",
    ),
    "C": (758544, ["e6bqe8Ms1Yt+BoPaWIeWCGrM+3Tvt6PlJen4AU0q1mM="], "8mCgqHVXNUyEZOGgpsbSCy52YRo0acscjDoPV591rys="),
}


def fields(vector: str = "B", **changed: object) -> dict[str, object]:
    """The members of a file, in their order."""
    length, pieces, hash_of_hashes = VECTORS[vector]
    made: dict[str, object] = {
        "MajorVersion": 1,
        "MinorVersion": 0,
        "HashOfHashes": hash_of_hashes,
        "ContentLength": length,
        "PieceSize": MIB,
        "Pieces": pieces,
    }
    return {**made, **changed}


def file(vector: str = "B", **changed: object) -> bytes:
    return json.dumps(fields(vector, **changed), separators=(",", ":")).encode()


def consistent(length: int, piece_size: int, count: int) -> bytes:
    """A file whose hash of hashes is right for whatever else it says."""
    head = b"\1\0\0\0" + length.to_bytes(8, "little", signed=True) + piece_size.to_bytes(8, "little", signed=True)[:4]
    hashes = [hashlib.sha256(bytes([number])).digest() for number in range(count)]
    whole = base64.b64encode(hashlib.sha256(head + b"".join(hashes)).digest()).decode()
    pieces = [base64.b64encode(each).decode() for each in hashes]
    return file(HashOfHashes=whole, ContentLength=length, PieceSize=piece_size, Pieces=pieces)


def refusal(data: bytes, length_bytes: int | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data, length_bytes=length_bytes)
    message = str(caught.value)
    assert message
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 200
    return message


# -- the known files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS)
def test_known_file_is_consistent_and_is_rebuilt_byte_for_byte(vector: str) -> None:
    length, pieces, hash_of_hashes = VECTORS[vector]
    manifest = parse_manifest(file(vector), length_bytes=length)
    assert (manifest.length_bytes, manifest.piece_size_bytes, manifest.piece_count) == (length, MIB, len(pieces))
    assert base64.b64encode(manifest.hash_of_hashes).decode() == hash_of_hashes
    assert [base64.b64encode(manifest.piece_hash(number)).decode() for number in range(len(pieces))] == pieces
    assert manifest.render() == file(vector)


def test_third_file_has_the_published_size_and_digest() -> None:
    rebuilt = parse_manifest(file("C")).render()
    assert len(rebuilt) == 198
    digest = base64.b64encode(hashlib.sha256(rebuilt).digest()).decode()
    assert digest == "xF5p1A9LiL1aEiYWHG7IxoBzYLH6fTxXC8TTtH3/7NM="
    assert base64.b64encode(parse_manifest(file("C")).digest).decode() == digest


def test_spacing_and_order_do_not_matter_but_the_rebuilt_file_has_neither() -> None:
    loose = json.dumps(dict(reversed(fields().items())), indent=2).encode() + b"\r\n"
    assert parse_manifest(loose).render() == file()


@given(
    content=st.binary(min_size=1, max_size=200_000),
    piece_size=st.sampled_from([1 << 14, 1 << 15, 1 << 16, 1 << 20]),
)
def test_what_is_made_of_content_is_parsed_back(content: bytes, piece_size: int) -> None:
    pieces = [content[at : at + piece_size] for at in range(0, len(content), piece_size)]
    made = Manifest(len(content), piece_size, b"".join(hashlib.sha256(piece).digest() for piece in pieces))
    assert parse_manifest(made.render(), length_bytes=len(content)) == made
    assert made.piece_count == len(pieces)
    assert made.piece_hash(made.piece_count - 1) == hashlib.sha256(pieces[-1]).digest()
    assert [content[slice(*made.piece_span(piece))] for piece in range(made.piece_count)] == pieces
    assert made.piece_span(made.piece_count - 1)[1] == len(content)


# -- bad files --------------------------------------------------------------------------------------------------


def test_any_other_byte_anywhere_is_refused() -> None:
    right = file("C")
    for position in range(len(right)):
        for other in range(256):
            if other != right[position]:
                with pytest.raises(ManifestError):
                    parse_manifest(right[:position] + bytes([other]) + right[position + 1 :])


def test_every_truncation_is_refused() -> None:
    right = file("C")
    for stop in range(len(right)):
        refusal(right[:stop])


def test_manifest_of_another_length_is_refused_and_names_both() -> None:
    assert refusal(file("C"), 758545) == "manifest is for 758544 bytes, the content has 758545"


@pytest.mark.parametrize("count", [0, 4, 6])
def test_number_of_pieces_off_by_one_is_refused_even_with_a_right_hash_of_hashes(count: int) -> None:
    assert "number of pieces" in refusal(consistent(4642818, MIB, count))
    assert parse_manifest(consistent(4642818, MIB, 5)).piece_count == 5


@pytest.mark.parametrize("piece_size", [0, -1, -MIB, 1, 1 << 13, MIB - 1, 3 << 19, 1 << 27, 1 << 31, 1 << 40, 1 << 62])
def test_piece_size_out_of_bounds_is_refused(piece_size: int) -> None:
    assert "piece size" in refusal(consistent(4642818, piece_size, 5))


@pytest.mark.parametrize("length", [0, -1, (1 << 46) + 1, 1 << 62])
def test_length_out_of_bounds_is_refused(length: int) -> None:
    assert "content length" in refusal(consistent(length, MIB, 1))


@pytest.mark.parametrize("name", list(fields()))
def test_key_that_stands_twice_is_refused(name: str) -> None:
    again = json.dumps({name: fields()[name]})[1:-1]
    escaped = again.replace(name, f"\\u{ord(name[0]):04x}{name[1:]}")
    right = file()
    for more in (again, escaped):
        refusal(right[:-1] + b"," + more.encode() + b"}")
        refusal(b"{" + more.encode() + b"," + right[1:])
    nested = f'"More":{{{again}}}'.encode()
    refusal(right[:-1] + b"," + nested + b"}")


@pytest.mark.parametrize("name", list(fields()))
def test_missing_key_is_refused(name: str) -> None:
    refusal(json.dumps({key: value for key, value in fields().items() if key != name}).encode())


HASH = "J/rmYNjGCeAgcDu0Y7ZgHmKBHcddsZl1vLfWjZWbUn0="
BAD_HASHES: list[Any] = [
    base64.b64encode(bytes(31)).decode(),
    base64.b64encode(bytes(33)).decode(),
    base64.b64encode(bytes(20)).decode(),
    base64.b64encode(bytes(64)).decode(),
    "",
    "=" * 44,
    HASH.rstrip("="),
    HASH[:-2] + "1=",  # same digest, other pad bits
    HASH.replace("/", "_"),
    HASH[:-1] + "é",
    HASH[:20] + "\n" + HASH[21:],
    HASH + "\n",
    bytes(32).hex(),
    None,
    7,
    True,
    [HASH],
]


@pytest.mark.parametrize("bad", BAD_HASHES)
def test_what_is_not_a_sha_256_in_canonical_base64_is_refused(bad: Any) -> None:
    pieces = [*VECTORS["B"][1][:4], bad]
    for ascii_only in (True, False):
        for changed in ({"Pieces": pieces}, {"HashOfHashes": bad}):
            refusal(json.dumps(fields(**changed), ensure_ascii=ascii_only).encode())


@pytest.mark.parametrize("name", ["MajorVersion", "MinorVersion", "ContentLength", "PieceSize"])
@pytest.mark.parametrize(
    "bad", ["1.0", "1e6", "true", "false", "null", '"1"', "NaN", "Infinity", "-1", "01", "9" * 5000, "[]"]
)
def test_number_that_is_not_a_plain_integer_is_refused(name: str, bad: str) -> None:
    number = json.dumps(fields()[name])
    changed = file().replace(f'"{name}":{number}'.encode(), f'"{name}":{bad}'.encode())
    assert changed != file()
    refusal(changed)


@pytest.mark.parametrize("version", [(2, 0), (1, 1), (0, 0)])
def test_unknown_version_is_refused(version: tuple[int, int]) -> None:
    assert "version" in refusal(file(MajorVersion=version[0], MinorVersion=version[1]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="no members"),
        pytest.param(b"<!DOCTYPE html><html><body>Not found</body></html>", id="html"),
        pytest.param(b"\xef\xbb\xbf" + file(), id="byte order mark"),
        pytest.param(file().decode().encode("utf-16"), id="utf-16"),
        pytest.param(file() + b"x", id="trailing text"),
        pytest.param(file() + file(), id="twice"),
        pytest.param(file() + b"\0", id="trailing NUL"),
        pytest.param(file()[:-1] + b',"x":NaN}', id="NaN"),
        pytest.param(file()[:-1] + b',"x":"\xff"}', id="not UTF-8"),
        pytest.param(file()[:-1] + b',"x":"\\ud800"}', id="lone surrogate"),
        pytest.param(file()[:-1] + b',"x":"\xed\xa0\x80"}', id="encoded surrogate"),
        pytest.param(file()[:-1] + b',"x":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", id="deep nesting"),
        pytest.param(b"[" * 10_000_000, id="deeper nesting"),
        pytest.param(file()[:-1] + b',"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001, id="nested objects"),
        pytest.param(file(Pieces="x"), id="pieces are text"),
        pytest.param(file(Pieces={}), id="pieces are a table"),
        pytest.param(file(Pieces=None), id="pieces are null"),
    ],
)
def test_anything_else_is_refused_with_one_line(data: bytes) -> None:
    refusal(data)


def test_unknown_member_is_passed_over() -> None:
    assert parse_manifest(file()[:-1] + b',"More":{"a":[1.5,"x"]}}') == parse_manifest(file())


def test_hundred_megabytes_are_refused_before_they_are_read() -> None:
    big = file()[:-1] + b',"x":"' + b"a" * 100_000_000 + b'"}'
    assert refusal(big) == "manifest is too large"


def test_short_strings_by_the_million_are_refused_at_the_first() -> None:
    many = b",".join([b'""'] * ((MAX_MANIFEST_BYTES - 1000) // 3))
    refusal(file(Pieces=[]).replace(b"[]", b"[" + many + b"]"))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    refusal(data)


@given(
    st.fixed_dictionaries(
        {
            name: st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=5,
            )
            for name in fields()
        }
    )
)
def test_any_values_in_the_right_places_are_refused(values: dict[str, object]) -> None:
    refusal(json.dumps(values).encode("utf-8", "surrogatepass"))
