"""Digest fields: strict grammar, whole answers, and who vouches."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.digest_fields import claims_from_fields
from cacheserver.core.integrity.trust import Claim

BODY = b"content"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


SHA256, SHA1, MD5 = (hashlib.new(name, BODY, usedforsecurity=False).digest() for name in ("sha256", "sha1", "md5"))
SHA512 = hashlib.sha512(BODY).digest()
S256, S1, SMD5, S512 = f"sha-256=:{b64(SHA256)}:", f"sha=:{b64(SHA1)}:", f"md5=:{b64(MD5)}:", f"sha-512=:{b64(SHA512)}:"


def claim(*lines: tuple[str, str], https: bool = True, whole: bool = True) -> Claim | None:
    made = claims_from_fields(Fields(lines), https=https, whole=whole)
    assert len(made) < 2
    return made[0] if made else None


def says(
    *, authentic: bool = True, sha256: bool = False, sha1: bool = False, md5: bool = False, sha512: bool = False
) -> Claim:
    return Claim(
        anchor="digest_field",
        authentic=authentic,
        sha256=SHA256 if sha256 else None,
        sha1=SHA1 if sha1 else None,
        md5=MD5 if md5 else None,
        sha512=SHA512 if sha512 else None,
    )


@pytest.mark.parametrize("name", ["Repr-Digest", "content-digest"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([S256], says(sha256=True)),
        ([S1], says(sha1=True)),
        ([SMD5], says(md5=True)),
        ([f"{S512}, {S256}"], says(sha256=True, sha512=True)),
        ([f"{S512},{S256}"], says(sha256=True, sha512=True)),
        ([f"{S512} \t,\t {SMD5} , {S1}"], says(md5=True, sha1=True, sha512=True)),
        ([S512, S256, S1], says(sha256=True, sha1=True, sha512=True)),
        ([S512], says(sha512=True)),
        ([f"  {S256} "], says(sha256=True)),
        ([f"unixsum=:AA==:, {S256}"], says(sha256=True)),
        ([S256.replace("=:", ":").replace(":", "=:", 1)], says(sha256=True)),
    ],
)
def test_well_formed_dictionary_states_the_known_digests(name: str, lines: list[str], expected: Claim) -> None:
    assert claim(*((name, line) for line in lines)) == expected


@pytest.mark.parametrize("name", ["Repr-Digest", "Content-Digest"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        f"sha-384=:{b64(hashlib.sha384(BODY).digest())}:",
        f"sha-512=:{b64(SHA256)}:",
        f"{S256},",
        f",{S256}",
        f"{S256},,{S1}",
        f"{S256};a=1",
        f"{S256} {S1}",
        f"{S256}, {S256}",
        f"{S256}, nonsense",
        f"{S256}, sha=1",
        f"{S256}, sha",
        f"{S256}, Sha=:{b64(SHA1)}:",
        f"SHA-256=:{b64(SHA256)}:",
        f"sha-256={b64(SHA256)}",
        f'sha-256="{b64(SHA256)}"',
        f"sha-256=:{b64(SHA256)}",
        f"sha-256= :{b64(SHA256)}:",
        f"sha-256=::{b64(SHA256)}::",
        f"sha-256=:{b64(SHA256[:31])}:",
        f"sha-256=:{b64(SHA1)}:",
        f"{S256}, md5=:{b64(SHA1)}:",
        f"sha-256=:{SHA256.hex()}:",
        "sha-256=::",
        f"sha-256=:{b64(SHA256)[:-2]}{'1' if b64(SHA256)[-2] != '1' else '2'}=:",
        f"sha-256=:{b64(SHA256).replace('/', '_').replace('+', '-')[:10]}_:",
        f"sha-256=:{b64(SHA256)}:\t",
        "é" + S256,
    ],
)
def test_malformed_dictionary_states_nothing(name: str, value: str) -> None:
    assert claim((name, value)) is None


def test_content_md5_is_plain_base64() -> None:
    assert claim(("Content-MD5", b64(MD5))) == says(md5=True)
    for bad in ("", MD5.hex(), f":{b64(MD5)}:", b64(SHA1), b64(MD5)[:-2], f"{b64(MD5)}, {b64(MD5)}", f'"{b64(MD5)}"'):
        assert claim(("Content-MD5", bad)) is None
    assert claim(("Content-MD5", b64(MD5)), ("Content-MD5", b64(MD5))) is None


def test_only_repr_digest_counts_in_an_answer_that_is_not_whole() -> None:
    part = [("Content-Digest", S1), ("Content-MD5", b64(MD5))]
    assert claim(*part, whole=False) is None
    assert claim(("Repr-Digest", S256), *part, whole=False) == says(sha256=True)
    assert claim(("Repr-Digest", S256), *part) == says(sha256=True, sha1=True, md5=True)


def test_claim_is_authentic_only_over_https() -> None:
    assert claim(("Repr-Digest", S256), https=False) == says(authentic=False, sha256=True)


def test_malformed_field_does_not_spoil_another() -> None:
    assert claim(("Repr-Digest", "nonsense"), ("Content-Digest", S256)) == says(sha256=True)


def test_fields_that_contradict_each_other_are_a_claim_each_so_that_no_content_fits() -> None:
    other = f"sha-256=:{b64(bytes(32))}:"
    both = Fields((("Repr-Digest", S256), ("Content-Digest", other), ("Content-MD5", b64(MD5))))
    first, second = claims_from_fields(both, https=True, whole=True)
    assert (first, second.sha256) == (says(sha256=True, md5=True), bytes(32))
    assert claims_from_fields(both, https=True, whole=False) == (says(sha256=True),)
    odd = Fields((("Repr-Digest", SMD5), ("Content-MD5", b64(bytes(16)))))
    assert len(claims_from_fields(odd, https=True, whole=True)) == 2
    assert claim(("Repr-Digest", SMD5), ("Content-MD5", b64(MD5))) == says(md5=True)


def test_answer_without_digest_fields_states_nothing() -> None:
    assert claim() is None
    assert claim(("ETag", S256), ("Digest", f"sha-256={b64(SHA256)}")) is None


@given(st.sampled_from(["Repr-Digest", "Content-Digest", "Content-MD5"]), st.text(max_size=120), st.booleans())
def test_any_text_is_judged_without_an_error(name: str, value: str, whole: bool) -> None:
    made = claim((name, value), whole=whole)
    assert made is None or made.whole_digests


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=20, max_size=20), st.binary(min_size=16, max_size=16))
def test_whatever_is_sent_is_what_is_claimed(sha256: bytes, sha1: bytes, md5: bytes) -> None:
    value = f"md5=:{b64(md5)}:, sha-256=:{b64(sha256)}:, sha=:{b64(sha1)}:"
    made = claim(("Repr-Digest", value))
    assert made is not None
    assert made.whole_digests == {"sha256": sha256, "sha1": sha1, "md5": md5}
