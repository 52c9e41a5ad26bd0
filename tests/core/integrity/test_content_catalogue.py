"""The operator's catalogue: its grammar, the bytes that are signed, and what is found by whom."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.errors import CatalogueError
from cacheserver.core.integrity.content_catalogue import (
    MAX_CATALOGUE_BYTES,
    CatalogueDocument,
    ContentCatalogue,
    Entry,
    parse_catalogue,
    render_catalogue,
    sign_bytes,
)
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.trust import Claim
from tests.support.targets import admitted

GUID = "7bc846e0-af9c-49be-a03d-bb04428c9bb5"
B32, B64 = to_base64(bytes(range(32))), to_base64(bytes(range(64)))
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "issued": "2025-01-02T03:04:05Z",
    "entries": [
        {"path": "/a/b.cab", "length": 10, "sha256": "ab" * 32},
        {"path": "/a/b.cab", "host": "mirror.example", "length": 11, "sha1": "cd" * 20},
        {"id": GUID, "length": 12, "hash_of_hashes": B32, "pieces_hash_digest": B32},
    ],
    "signature": {"alg": "Ed25519", "key": B32, "value": B64},
}


def changed(*path: str | int, to: object) -> bytes:
    """The document with one value replaced, or taken out (Ellipsis)."""
    document = copy.deepcopy(DOCUMENT)
    node: Any = document
    for step in path[:-1]:
        node = node[step]
    if to is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = to
    return json.dumps(document).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(CatalogueError) as caught:
        parse_catalogue(data)
    message = str(caught.value)
    assert message.startswith("catalogue")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 240
    return message


# -- grammar ----------------------------------------------------------------------------------------------------


def test_document_is_read_and_written_back() -> None:
    document = parse_catalogue(json.dumps(DOCUMENT).encode())
    assert document.entries[0] == Entry(path="/a/b.cab", length=10, sha256="ab" * 32)
    assert document.signature is not None
    assert json.loads(render_catalogue(document)) == DOCUMENT
    assert parse_catalogue(render_catalogue(document)) == document


def test_unsigned_and_empty_documents_are_well_formed() -> None:
    document = parse_catalogue(b'{"version":1,"issued":"2025-01-02T03:04:05Z","entries":[]}')
    assert document == CatalogueDocument(version=1, issued="2025-01-02T03:04:05Z", entries=())


BAD_ENTRY_VALUES: list[tuple[str, Any, str]] = [
    ("length", -1, ">= 0"),
    ("length", (1 << 46) + 1, "<="),
    ("length", 1.0, "int"),
    ("length", True, "int"),
    ("length", "10", "int"),
    ("length", None, "int"),
    ("length", ..., "length"),
    ("path", ..., "either a path or an id"),
    ("path", 1, "str"),
    ("path", "a/b.cab", "canonical"),
    ("path", "", "canonical"),
    ("path", "/a/%62.cab", "canonical"),
    ("path", "/a/../b.cab", "canonical"),
    ("path", "/a b", "canonical"),
    ("path", "/\ud800", "canonical"),
    ("path", "/é", "canonical"),
    ("path", "/a\n", "canonical"),
    ("path", "http://x/a", "canonical"),
    ("path", "/" + "a" * 20_000, "canonical"),
    ("id", GUID, "either a path or an id"),
    ("host", "Mirror.example", "host"),
    ("host", "mirror.example:80", "host"),
    ("host", "*.example", "host"),
    ("host", "", "host"),
    ("sha256", "AB" * 32, "sha256 is not 64 lower-case hex digits"),
    ("sha256", "ab" * 31, "sha256"),
    ("sha256", "", "sha256"),
    ("sha256", ..., "no digest"),
    ("sha256", None, "no digest"),
    ("sha1", "ab" * 32, "sha1 is not 40"),
    ("hash_of_hashes", to_base64(bytes(31)), "31 bytes, not of 32"),
    ("hash_of_hashes", B32.rstrip("="), "not base64"),
    ("pieces_hash_digest", "ab" * 32, "pieces_hash_digest"),
    ("md5", "ab" * 16, "unknown field md5"),
    ("\n\u202e", 1, "unknown field"),
]


@pytest.mark.parametrize(("name", "value", "part"), BAD_ENTRY_VALUES)
def test_wrong_value_of_an_entry_is_refused_and_named(name: str, value: Any, part: str) -> None:
    message = refusal(changed("entries", 0, name, to=value))
    assert part in message
    assert "entry 0" in message or "entries[0]" in message


@pytest.mark.parametrize("guid", [GUID.upper(), GUID[:-1], f"{{{GUID}}}", GUID + "\n", "x", ""])
def test_id_is_a_lower_case_guid(guid: str) -> None:
    assert "entry 2: id" in refusal(changed("entries", 2, "id", to=guid))


def test_host_belongs_to_a_path() -> None:
    assert "host" in refusal(changed("entries", 2, "host", to="a.example"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("version",), True),
        (("version",), 1.0),
        (("version",), "1"),
        (("version",), ...),
        (("issued",), "2025-01-02"),
        (("issued",), "2025-13-02T03:04:05Z"),
        (("issued",), "2025-01-02T03:04:05+00:00"),
        (("issued",), 1_700_000_000),
        (("issued",), ...),
        (("entries",), {}),
        (("entries",), None),
        (("entries",), ["x"]),
        (("entries",), [None]),
        (("entries",), ...),
        (("more",), 1),
        (("signature",), "x"),
        (("signature",), {}),
        (("signature", "alg"), "ed25519"),
        (("signature", "alg"), "none"),
        (("signature", "key"), to_base64(bytes(31))),
        (("signature", "key"), B32[:-1]),
        (("signature", "value"), B32),
        (("signature", "value"), None),
        (("signature", "more"), 1),
    ],
)
def test_wrong_document_is_refused(path: tuple[str, ...], value: Any) -> None:
    refusal(changed(*path, to=value))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"<html></html>", id="html"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(DOCUMENT).encode(), id="byte order mark"),
        pytest.param(json.dumps(DOCUMENT).encode("utf-16"), id="utf-16"),
        pytest.param(json.dumps(DOCUMENT).encode() + b"{}", id="trailing"),
        pytest.param(b"[" * 5_000_000, id="deep"),
        pytest.param(b'{"version":NaN}', id="NaN"),
        pytest.param(b" " * (MAX_CATALOGUE_BYTES + 1), id="too large"),
    ],
)
def test_what_is_no_catalogue_is_refused(data: bytes) -> None:
    refusal(data)


def test_key_that_stands_twice_is_refused_at_every_level() -> None:
    text = json.dumps(DOCUMENT)
    for again in ('"version": 1, ', '"length": 10, ', '"alg": "Ed25519", '):
        assert "twice" in refusal(text.replace(again, again * 2, 1).encode())
        escaped = again.replace(again[1], f"\\u{ord(again[1]):04x}", 1)
        assert "twice" in refusal(text.replace(again, again + escaped, 1).encode())


@pytest.mark.parametrize("first", [0, 1, 2])
def test_second_entry_for_the_same_content_must_say_the_same(first: int) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["entries"].append(dict(document["entries"][first]))
    parse_catalogue(json.dumps(document).encode())
    document["entries"][-1]["length"] += 1
    assert f"entries {first} and 3 contradict" in refusal(json.dumps(document).encode())


# -- what is signed ---------------------------------------------------------------------------------------------


def test_signed_bytes_are_exactly_as_documented() -> None:
    document = parse_catalogue(json.dumps(DOCUMENT, indent=3).encode())
    assert sign_bytes(document) == (
        b"cacheserver content catalogue 1\n"
        b'{"entries":[{"length":10,"path":"/a/b.cab","sha256":"' + b"ab" * 32 + b'"},'
        b'{"host":"mirror.example","length":11,"path":"/a/b.cab","sha1":"' + b"cd" * 20 + b'"},'
        b'{"hash_of_hashes":"' + B32.encode() + b'","id":"' + GUID.encode() + b'","length":12,'
        b'"pieces_hash_digest":"' + B32.encode() + b'"}],"issued":"2025-01-02T03:04:05Z","version":1}'
    )


@given(st.data())
def test_changed_byte_is_refused_or_changes_what_is_signed_or_the_signature(data: st.DataObject) -> None:
    right = json.dumps(DOCUMENT).encode()
    place = data.draw(st.integers(0, len(right) - 1))
    flipped = right[:place] + bytes([right[place] ^ data.draw(st.integers(1, 255))]) + right[place + 1 :]
    before = parse_catalogue(right)
    try:
        after = parse_catalogue(flipped)
    except CatalogueError:
        return
    assert right[place : place + 1].isspace() or (sign_bytes(after), after.signature) != (
        sign_bytes(before),
        before.signature,
    )


# -- look-ups ---------------------------------------------------------------------------------------------------


OWN = {"hosts": ["a.example", "mirror.example", "x.mirror.example"]}


def found(url: str, catalogue: ContentCatalogue) -> list[int | None]:
    """The lengths in the claims about ``url``; they tell the entries apart."""
    claims = catalogue.claims(admitted(url, own=OWN))
    assert all(claim.anchor == "catalogue" and claim.authentic for claim in claims)
    return [claim.length_bytes for claim in claims]


FILES = "http://dl.delivery.mp.microsoft.com/filestreamingservice/files"


@pytest.mark.parametrize(
    ("url", "lengths"),
    [
        ("http://a.example/a/b.cab", [10]),
        ("http://a.example/a/%62.cab", [10]),
        ("https://a.example/a/b.cab", [10]),
        ("http://mirror.example/a/b.cab", [11]),
        ("http://x.mirror.example/a/b.cab", [10]),
        ("http://a.example/a/b.cab?x=1", []),
        ("http://a.example/a//b.cab", []),
        ("http://a.example/a/B.cab", []),
        ("http://a.example/a/b.cab/", []),
        ("http://download.windowsupdate.com/a//b.cab?P1=1&P4=x", [10]),
        ("http://download.windowsupdate.com/a/b.cab?x=1", []),
        (f"{FILES}/{GUID}?P1=1700000000&P2=404&P3=2&P4=abc%2b", [12]),
        (f"{FILES}/{GUID.upper()}", [12]),
        (f"{FILES}/{GUID}/pieceshash", []),
        (f"{FILES}/{GUID}/Microsoft.png", []),
        (f"{FILES}/{GUID}.phf", []),
        (f"{FILES}/x{GUID}", []),
        (f"{FILES}/?{GUID}", []),
    ],
)
def test_content_is_found_by_its_path_or_the_guid_at_its_end(url: str, lengths: list[int]) -> None:
    catalogue = ContentCatalogue([parse_catalogue(json.dumps(DOCUMENT).encode())])
    assert found(url, catalogue) == lengths


def test_host_of_the_cache_key_stands_for_all_its_shards() -> None:
    entry = Entry(path="/x.cab", host="download.windowsupdate.com", length=5, sha1="00" * 20)
    catalogue = ContentCatalogue([CatalogueDocument(version=1, issued="2025-01-02T03:04:05Z", entries=(entry,))])
    assert found("http://au.b1.download.windowsupdate.com/x.cab", catalogue) == [5]
    assert found("http://ds.download.windowsupdate.com/x.cab", catalogue) == []


def test_query_that_tells_contents_apart_is_part_of_the_path() -> None:
    entry = Entry(path="/get?id=7", length=5, sha1="00" * 20)
    catalogue = ContentCatalogue([CatalogueDocument(version=1, issued="2025-01-02T03:04:05Z", entries=(entry,))])
    assert found("http://a.example/get?id=7", catalogue) == [5]
    assert found("http://a.example/get?id=8", catalogue) == []
    assert found("http://a.example/get", catalogue) == []


def test_claim_has_every_fact_of_the_entry() -> None:
    entry = Entry(
        path="/x",
        length=5,
        hash_of_hashes=B32,
        pieces_hash_digest=to_base64(bytes(32)),
        sha256="ab" * 32,
        sha1="cd" * 20,
    )
    assert entry.claim == Claim(
        anchor="catalogue",
        authentic=True,
        length_bytes=5,
        hash_of_hashes=bytes(range(32)),
        manifest_digest=bytes(32),
        sha256=b"\xab" * 32,
        sha1=b"\xcd" * 20,
    )


def test_documents_may_repeat_but_not_contradict_each_other() -> None:
    document = parse_catalogue(json.dumps(DOCUMENT).encode())
    assert len(ContentCatalogue([document, document])) == 3
    other = parse_catalogue(changed("entries", 2, "length", to=13))
    with pytest.raises(CatalogueError, match=f"contradict each other about {GUID}"):
        ContentCatalogue([document, other])
