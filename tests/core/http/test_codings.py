"""Content codings as tables (RFC 9110 §8.4, §12.5.3)."""

from __future__ import annotations

import pytest

from cacheserver.core.http.codings import accepted_codings, content_codings
from cacheserver.core.http.fields import Fields

ANY = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, set()),
        ("", set()),
        ("identity", set()),
        ("gzip", {"gzip"}),
        ("GZIP", {"gzip"}),
        ("gzip, br", {"gzip", "br"}),
        (" gzip ; q=0.5 ,\tbr", {"gzip", "br"}),
        ("gzip;q=0", set()),
        ("gzip;q=0.000", set()),
        ("gzip;q=0.001", {"gzip"}),
        ("gzip;Q=0", set()),
        ("gzip;q=1.0, identity;q=0", {"gzip"}),
        ("my-own", {"my-own"}),
        ("*", ANY),
        ("*;q=0", set()),
        ("gzip, *;q=0", {"gzip"}),
        ("gzip;q=0, *", ANY - {"gzip"}),
        ("*, gzip;q=0", ANY - {"gzip"}),
        ("my-own, *", ANY | {"my-own"}),
        (",,gzip,,", {"gzip"}),
    ],
)
def test_accepted_codings(field: str | None, expected: set[str]) -> None:
    assert accepted_codings(field) == expected


@pytest.mark.parametrize(
    ("lines", "codings"),
    [
        ([], ()),
        ([""], ()),
        (["identity, IDENTITY"], ()),
        (["aws-chunked"], ()),
        (["none", "utf-8, binary"], ()),
        (["aws-chunked,gzip"], ("gzip",)),
        (["GZIP", "br"], ("gzip", "br")),
    ],
)
def test_a_word_that_is_no_coding_changes_no_bytes(lines: list[str], codings: tuple[str, ...]) -> None:
    assert content_codings(Fields(("Content-Encoding", line) for line in lines)) == codings
