"""Names in certificates: one spelling, and the wildcard stands for one whole label."""

from __future__ import annotations

import pytest

from cacheserver.tls.names import certificate_name, missing_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Cache.Example.COM", "cache.example.com"),
        ("cache01", "cache01"),
        ("cache.example.com.", "cache.example.com"),
        ("*.example.com", "*.example.com"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("2001:db8:0::1", "2001:db8::1"),
    ],
)
def test_a_name_has_one_spelling(text: str, name: str) -> None:
    assert certificate_name(text) == name


@pytest.mark.parametrize(
    "text",
    ["", "a b", "cache:443", "[::1]:443", "http://cache", "*.com", "*", "a.*.example", "caché.example", "192.0.2.300"],
)
def test_what_is_no_host_is_refused_in_one_ascii_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        certificate_name(text)
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "held", "missing"),
    [
        (["a.example"], ["A.EXAMPLE"], []),
        (["a.example", "b.example"], ["a.example"], ["b.example"]),
        (["a.example"], ["*.example"], ["a.example"]),
        (["a.corp.example"], ["*.corp.example"], []),
        (["b.a.corp.example"], ["*.corp.example"], ["b.a.corp.example"]),
        (["corp.example"], ["*.corp.example"], ["corp.example"]),
        (["*.corp.example"], ["a.corp.example"], ["*.corp.example"]),
        (["2001:db8::1"], ["2001:0db8:0:0:0:0:0:1"], []),
        (["192.0.2.7"], ["*.0.2.7"], ["192.0.2.7"]),
        ([], [], []),
        (["a.example"], ["odd name\n"], ["a.example"]),
    ],
)
def test_a_certificate_covers_exact_names_and_one_label_by_wildcard(
    wanted: list[str], held: list[str], missing: list[str]
) -> None:
    assert missing_names(wanted, held) == missing
