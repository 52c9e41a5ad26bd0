"""Signed catalogues end to end: keys, signatures, files, and what is refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from msgspec.structs import replace

from cacheserver.core.errors import CatalogueError, ConfigError
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.content_catalogue import (
    CatalogueDocument,
    Entry,
    Signature,
    parse_catalogue,
    render_catalogue,
)
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.trust.catalogue_anchor import CatalogueAnchor
from cacheserver.trust.signing import new_private_key, parse_public_key, public_key, sign, verify
from tests.support.targets import admitted

KEY, OTHER = new_private_key(), new_private_key()
PUBLIC, OTHER_PUBLIC = public_key(KEY), public_key(OTHER)
ENTRY = Entry(path="/a.cab", length=5, sha256="ab" * 32)
DOCUMENT = CatalogueDocument(version=1, issued="2025-01-02T03:04:05Z", entries=(ENTRY,))
SIGNED = sign(DOCUMENT, KEY)
TARGET = admitted("http://a.example/a.cab", own={"hosts": ["a.example"]})


# -- signatures -------------------------------------------------------------------------------------------------


def test_signature_of_a_trusted_key_is_accepted() -> None:
    verify(SIGNED, {PUBLIC})
    verify(parse_catalogue(render_catalogue(SIGNED)), {OTHER_PUBLIC, PUBLIC})


def test_signing_again_replaces_the_signature() -> None:
    again = sign(SIGNED, OTHER)
    verify(again, {OTHER_PUBLIC})
    assert sign(again, KEY) == SIGNED


@pytest.mark.parametrize(
    ("document", "part"),
    [
        (DOCUMENT, "not signed"),
        (sign(DOCUMENT, OTHER), "not a trusted key"),
        (replace(SIGNED, issued="2025-01-02T03:04:06Z"), "does not fit"),
        (replace(SIGNED, entries=()), "does not fit"),
        (replace(SIGNED, entries=(ENTRY, ENTRY)), "does not fit"),
        (replace(SIGNED, entries=(replace(ENTRY, length=6),)), "does not fit"),
        (replace(SIGNED, entries=(replace(ENTRY, host="a.example"),)), "does not fit"),
        (
            replace(SIGNED, signature=Signature(alg="Ed25519", key=to_base64(PUBLIC), value=to_base64(bytes(64)))),
            "does not fit",
        ),
        (
            replace(
                SIGNED,
                signature=Signature(
                    alg="Ed25519",
                    key=to_base64(PUBLIC),
                    value=(sign(DOCUMENT, OTHER).signature or SIGNED.signature).value,  # type: ignore[union-attr]
                ),
            ),
            "does not fit",
        ),
    ],
)
def test_any_other_document_is_refused(document: CatalogueDocument, part: str) -> None:
    with pytest.raises(CatalogueError, match=part) as caught:
        verify(document, {PUBLIC})
    assert str(caught.value).isprintable()


def test_nothing_is_trusted_without_keys() -> None:
    with pytest.raises(CatalogueError, match="not a trusted key"):
        verify(SIGNED, set())


def test_every_flipped_bit_of_a_signed_file_is_refused() -> None:
    right = render_catalogue(SIGNED)
    for place in range(len(right)):
        for bit in range(8):
            flipped = right[:place] + bytes([right[place] ^ 1 << bit]) + right[place + 1 :]
            with pytest.raises(CatalogueError):
                verify(parse_catalogue(flipped), {PUBLIC})


@pytest.mark.parametrize(
    "text",
    ["", "x", to_base64(bytes(31)), to_base64(PUBLIC)[:-1], PUBLIC.hex(), "é" * 44],
    ids=["empty", "a letter", "31 bytes", "unpadded", "hexadecimal", "not ASCII"],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(CatalogueError, match="not an Ed25519 public key"):
        parse_public_key(text)
    assert parse_public_key(f" {to_base64(PUBLIC)}\n") == PUBLIC


def _other_private_keys() -> list[bytes]:
    loaded = load_pem_private_key(KEY, password=None)
    locked = loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    curve = ec.generate_private_key(ec.SECP256R1())
    return [
        b"",
        b"nonsense",
        KEY[:60],
        to_base64(PUBLIC).encode(),
        locked,
        curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ]


@pytest.mark.parametrize(
    "pem", _other_private_keys(), ids=["empty", "nonsense", "cut", "a public key", "locked", "a curve"]
)
def test_what_is_no_private_key_is_refused(pem: bytes) -> None:
    with pytest.raises(CatalogueError, match=r"private key") as caught:
        sign(DOCUMENT, pem)
    assert str(caught.value).isprintable()


# -- files ------------------------------------------------------------------------------------------------------


def written(path: Path, document: CatalogueDocument = SIGNED) -> str:
    path.write_bytes(render_catalogue(document))
    return str(path)


async def lengths(anchor: CatalogueAnchor) -> list[int | None]:
    return [claim.length_bytes for claim in await anchor.ask(TARGET, Fields(), secure=False)]


async def test_entries_of_all_files_speak(tmp_path: Path) -> None:
    more = sign(replace(DOCUMENT, entries=(replace(ENTRY, path="/b.cab"),)), OTHER)
    anchor = CatalogueAnchor(
        files=[written(tmp_path / "a"), written(tmp_path / "b", more)],
        trusted_keys=[to_base64(PUBLIC), to_base64(OTHER_PUBLIC)],
    )
    assert len(anchor) == 2
    assert await lengths(anchor) == [5]


async def test_no_files_say_nothing() -> None:
    assert await lengths(CatalogueAnchor(files=[], trusted_keys=[])) == []


def _bad_files(folder: Path) -> list[tuple[list[str], list[str], str, str]]:
    """Files, keys, what the error's place is, what it says."""
    keys = [to_base64(PUBLIC)]
    right = render_catalogue(SIGNED)
    (folder / "flipped").write_bytes(right.replace(b'"length": 5', b'"length": 4'))
    (folder / "cut").write_bytes(right[:-10])
    (folder / "empty").write_bytes(b"")
    unsigned = written(folder / "unsigned", DOCUMENT)
    foreign = written(folder / "foreign", sign(DOCUMENT, OTHER))
    other = written(folder / "other", sign(replace(DOCUMENT, entries=(replace(ENTRY, length=6),)), KEY))
    fine = written(folder / "fine")
    return [
        ([str(folder / "missing")], keys, "missing", "cannot read"),
        ([str(folder)], keys, folder.name, "cannot read"),
        ([fine, str(folder / "flipped")], keys, "flipped", "does not fit"),
        ([str(folder / "cut")], keys, "cut", "not JSON"),
        ([str(folder / "empty")], keys, "empty", "not JSON"),
        ([unsigned], keys, "unsigned", "not signed"),
        ([foreign], keys, "foreign", "not a trusted key"),
        ([fine, other], keys, "", "contradict"),
        ([fine], [], "fine", "not a trusted key"),
        ([fine], ["nonsense"], "", "not an Ed25519 public key"),
    ]


@pytest.mark.parametrize("case", range(10))
async def test_bad_file_is_refused_at_the_start_and_changes_nothing_on_reload(case: int, tmp_path: Path) -> None:
    cases = _bad_files(tmp_path)
    assert len(cases) == 10
    files, keys, place, part = cases[case]
    with pytest.raises(ConfigError, match=part) as caught:
        CatalogueAnchor(files=files, trusted_keys=keys)
    assert caught.value.where.endswith(place)
    assert caught.value.key in ("trust.catalogues", "trust.catalogue_keys")
    assert str(caught.value).isprintable()
    anchor = CatalogueAnchor(files=[written(tmp_path / "good")], trusted_keys=[to_base64(PUBLIC)])
    with pytest.raises(ConfigError):
        anchor.reload(files=files, trusted_keys=keys)
    assert await lengths(anchor) == [5]


async def test_reload_takes_up_a_changed_file_and_drops_a_key(tmp_path: Path) -> None:
    path, keys = written(tmp_path / "c"), [to_base64(PUBLIC)]
    anchor = CatalogueAnchor(files=[path], trusted_keys=keys)
    written(tmp_path / "c", sign(replace(DOCUMENT, entries=(replace(ENTRY, length=6),)), KEY))
    assert await lengths(anchor) == [5]
    anchor.reload(files=[path], trusted_keys=keys)
    assert await lengths(anchor) == [6]
    anchor.reload(files=[], trusted_keys=[])
    assert await lengths(anchor) == []
