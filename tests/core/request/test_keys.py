"""Canonical targets and keys: what shares an object, what must not, and what is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cacheserver.core.errors import MalformedRequest
from cacheserver.core.request.keys import (
    MAX_TARGET,
    CanonicalTarget,
    cache_key,
    canonical_target,
    is_object_id,
    key_host,
    manifest_url,
    object_id,
    split_cache_host_origin,
)
from cacheserver.core.request.service import HostRewrite, ManifestRule, Service
from cacheserver.core.request.target import Form, Target

OWN = Service(name="own", hosts=("a.example",), own=True)
SIGNED = Service(
    name="signed",
    hosts=("dl.example", "*.dl.example"),
    rewrites=(HostRewrite(r"[0-9]+\.(dl\.example)", r"\1"), HostRewrite(r".*\.dl\.example", "Other.example")),
    query="drop-listed",
    query_drop=("P1", "P2", "P3", "P4", "cacheHostOrigin", "a b"),
    collapse_slashes=True,
)


def key(service: Service, target: str, *, scheme: str = "http", host: str = "a.example", port: int = 80) -> str:
    return cache_key(service, scheme, host, port, canonical_target(target))


# -- canonical targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/", "/", None),
        ("/?", "/", ""),
        ("/a/b.cab", "/a/b.cab", None),
        ("/%41", "/A", None),
        ("/%7euser", "/~user", None),
        ("/a%2d%5F%2E%7E", "/a-_.~", None),
        ("/a%2fb", "/a%2Fb", None),
        ("/a%2Fb", "/a%2Fb", None),
        ("/%c3%bc", "/%C3%BC", None),
        ("/a%20b", "/a%20b", None),
        ("/a%25%34%31", "/a%2541", None),
        ("/a%2541", "/a%2541", None),
        ("//a//b", "//a//b", None),
        ("/a;v=1,2", "/a;v=1,2", None),
        ("/a%3bv", "/a%3Bv", None),
        ("/...", "/...", None),
        ("/.", "/", None),
        ("/a/./b", "/a/b", None),
        ("/debian/./Packages.gz", "/debian/Packages.gz", None),
        ("/..a/.b/c..", "/..a/.b/c..", None),
        ("/%2e%2e%2e", "/...", None),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@", None),
        ("/[1]", "/[1]", None),
        ("/%5c", "/%5C", None),
        ("/a?b=%41%2f", "/a", "b=A%2F"),
        ("/a?b?c=/d", "/a", "b?c=/d"),
        ("/a?..", "/a", ".."),
        ("/a?b=100%", "/a", "b=100%"),
        ("/a?b=%4%31", "/a", "b=%4%31"),
        ("/a?b=%zz&c=%41", "/a", "b=%zz&c=%41"),
        ("/a?f={1}|^`\\[]", "/a", "f=%7B1%7D%7C%5E%60\\[]"),
        ("/a?f=%7b1%7D%7c%5e%60", "/a", "f=%7B1%7D%7C%5E%60"),
        ("/{a}|^`", "/%7Ba%7D%7C%5E%60", None),
        ("/%7ba%7d%7c%5e%60", "/%7Ba%7D%7C%5E%60", None),
        ("/a?b=%0a", "/a", "b=%0A"),
        ("/f?P1=1&P4=abc%2bdef%3d%3d", "/f", "P1=1&P4=abc%2Bdef%3D%3D"),
    ],
)
def test_equivalent_spellings_have_one_canonical_form(raw: str, path: str, query: str | None) -> None:
    assert canonical_target(raw) == CanonicalTarget(path, query)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "a",
        "?a",
        "*",
        "a.example:443",
        "http://a.example/",
        "/..",
        "/a/../b",
        "/a/..",
        "/%2e%2e/b",
        "/%2E/b",
        "/.%2e/b",
        "/%2e./b",
        "/a/%2e%2e",
        "/a\x00",
        "/a%00",
        "/a%00.cab",
        "/a?b=%00",
        "/a%0d%0aX: y",
        "/a%1f",
        "/a%7f",
        "/a\r\nX: y",
        "/a\n",
        "/a\t",
        "/a b",
        "/a\x7f",
        "/ü",
        "/\xa0",
        "/a?ü",
        "/a#b",
        "/a?b#c",
        "/a?b c",
        "/a?b\x00",
        "/a?b\n",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%u0041",
        "/a\\b",
        "/..\\b",
        '/a"b',
        "/a<b",
        "/a>b",
        '/a?"',
        "/a?<b>",
    ],
)
def test_what_origins_could_read_in_two_ways_is_malformed(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        canonical_target(raw)


def test_targets_are_bounded() -> None:
    longest = "/" + "a" * (MAX_TARGET - 1)
    assert canonical_target(longest).path == longest
    with pytest.raises(MalformedRequest):
        canonical_target(longest + "a")


# -- the cacheHostOrigin pair -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "rest", "value"),
    [
        ("/a", "/a", None),
        ("/a?b=1", "/a?b=1", None),
        ("/a?cacheHostOrigin=h", "/a", "h"),
        ("/a?P1=1&cacheHostOrigin=h", "/a?P1=1", "h"),
        ("/a?cacheHostOrigin=h&P1=1", "/a?P1=1", "h"),
        ("/a?P1=1&cacheHostOrigin=h&P2=2", "/a?P1=1&P2=2", "h"),
        ("/a?P4=x%2b%2B%3d&cacheHostOrigin=%5B::1%5D", "/a?P4=x%2b%2B%3d", "%5B::1%5D"),
        ("/a?cacheHostOrigin=first&cacheHostOrigin=last", "/a", "last"),
        ("/a?cacheHostOrigin=first&x&cacheHostOrigin=last&y", "/a?x&y", "last"),
        ("/a?&cacheHostOrigin=h", "/a?", "h"),
        ("/a?b&&cacheHostOrigin=h", "/a?b&", "h"),
        ("/a?cacheHostOrigin=", "/a", ""),
        ("/a?cacheHostOrigin=x=y", "/a", "x=y"),
        ("/a?cacheHostOrigin", "/a?cacheHostOrigin", None),
        ("/a?cachehostorigin=h", "/a?cachehostorigin=h", None),
        ("/a?CacheHostOrigin=h", "/a?CacheHostOrigin=h", None),
        ("/a?cacheHostOrigi%6e=h", "/a?cacheHostOrigi%6e=h", None),
        ("/a?xcacheHostOrigin=h", "/a?xcacheHostOrigin=h", None),
        ("/a?b=1;cacheHostOrigin=h", "/a?b=1;cacheHostOrigin=h", None),
        ("/cacheHostOrigin=h", "/cacheHostOrigin=h", None),
        ("/a&cacheHostOrigin=h", "/a&cacheHostOrigin=h", None),
        ("/a?b?cacheHostOrigin=h", "/a?b?cacheHostOrigin=h", None),
        ("?cacheHostOrigin=h", "", "h"),
    ],
)
def test_the_last_pair_counts_and_all_are_taken_out(raw: str, rest: str, value: str | None) -> None:
    assert split_cache_host_origin(raw) == (rest, value)


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=30)


@given(visible.filter(lambda text: "?" not in text), st.none() | visible)
def test_taking_the_pair_out_restores_the_url_to_which_the_client_appended_it(path: str, query: str | None) -> None:
    url = f"/{path}" if query is None else f"/{path}?{query}"
    appended = f"{url}{'?' if query is None else '&'}cacheHostOrigin=dl.example"
    assert split_cache_host_origin(appended) == (url, "dl.example")


# -- keys -------------------------------------------------------------------------------------------------------


def test_a_key_is_five_lines() -> None:
    assert key(OWN, "/a?b=1").split("\n") == ["own", "http", "a.example", "/a", "?b=1"]
    assert key(OWN, "/a").split("\n") == ["own", "http", "a.example", "/a", ""]
    assert key(SIGNED, "/a", host="dl.example").split("\n") == ["signed", "*", "dl.example", "/a", ""]


def test_the_scheme_counts_where_a_service_asks_as_requested_and_says_so_or_is_an_own_one() -> None:
    assert key(OWN, "/a") != key(OWN, "/a", scheme="https", port=443)
    assert key(SIGNED, "/a") == key(SIGNED, "/a", scheme="https", port=443)
    apart, together = replace(SIGNED, scheme_in_key=True), replace(OWN, scheme_in_key=False)
    assert key(apart, "/a") != key(apart, "/a", scheme="https", port=443)
    assert key(together, "/a") == key(together, "/a", scheme="https", port=443)
    fixed = replace(OWN, scheme="https", scheme_in_key=True)
    assert key(fixed, "/a", scheme="https", port=443).split("\n")[1] == "*"


@pytest.mark.parametrize(
    ("scheme", "port", "shown"),
    [
        ("http", 80, "a.example"),
        ("https", 443, "a.example"),
        ("http", 8530, "a.example:8530"),
        ("http", 443, "a.example:443"),
        ("https", 80, "a.example:80"),
    ],
)
def test_a_port_that_is_not_the_schemes_own_is_part_of_the_key(scheme: str, port: int, shown: str) -> None:
    assert key(OWN, "/a", scheme=scheme, port=port).split("\n")[2] == shown


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a/b", "/a%2Fb"),
        ("/a", "/A"),
        ("/a", "/a/"),
        ("/a", "/a?"),
        ("/a?", "/a?b"),
        ("/a?b&c", "/a?c&b"),
        ("/a?b=1", "/a?b=1&b=1"),
        ("/a;b", "/a%3Bb"),
        ("/a+b", "/a%20b"),
        ("/a%2541", "/a%41"),
        ("/a//b", "/a/b"),
        ("/a?b=%4%31", "/a?b=%41"),
        ("/a?b=//", "/a?b=/"),
        ("/a%3Fb", "/a?b"),
        ("/a?b=A", "/a?b=a"),
    ],
)
def test_different_resources_have_different_keys(first: str, second: str) -> None:
    assert key(OWN, first) != key(OWN, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/f?P1=1700000000&P2=404&P3=2&P4=abc%2bdef%3d%3d", "/f"),
        ("/f?P1=1&P4=x", "/f?P4=y&P1=2"),
        ("/f?x=1&P1=1&y=2", "/f?x=1&y=2"),
        ("/f?%501=1", "/f"),
        ("/f?P1", "/f"),
        ("/f?", "/f"),
        ("/f?&&", "/f"),
        ("/f?a%20b=1", "/f"),
        ("/f?cacheHostOrigin=first", "/f"),
        ("/a//b///c", "/a/b/c"),
        ("//a", "/a"),
    ],
)
def test_a_signed_services_tokens_and_doubled_slashes_are_not_in_the_key(first: str, second: str) -> None:
    assert key(SIGNED, first) == key(SIGNED, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [("/f?p1=1", "/f"), ("/f?P10=1", "/f"), ("/f?x=P1", "/f"), ("/f?x&y", "/f?y&x"), ("/f?u=//", "/f?u=/")],
)
def test_only_the_listed_names_are_dropped(first: str, second: str) -> None:
    assert key(SIGNED, first) != key(SIGNED, second)


def test_an_ignored_query_is_not_in_the_key() -> None:
    ignoring = replace(OWN, query="ignore")
    assert key(ignoring, "/a?b=1") == key(ignoring, "/a") == key(ignoring, "/a?")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("9.dl.example", "dl.example"),
        ("12.dl.example", "dl.example"),
        ("dl.example", "dl.example"),
        ("x9.dl.example", "other.example"),
        ("9.dl.example.evil", "9.dl.example.evil"),
    ],
)
def test_the_first_rewrite_that_fits_the_whole_host_wins(host: str, expected: str) -> None:
    assert key_host(SIGNED, host) == expected


def test_a_canonical_host_stands_for_all_hosts() -> None:
    assert key_host(replace(SIGNED, canonical_host="one.example"), "9.dl.example") == "one.example"


def test_object_ids_are_32_hex_digits_of_the_keys_sha256() -> None:
    assert object_id("abc") == "ba7816bf8f01cfea414140de5dae2223"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("0af9" * 8, True), ("0af9" * 8 + "\n", False), ("0AF9" * 8, False), ("0" * 31, False), ("", False)],
)
def test_only_32_lower_case_hex_digits_are_an_object_id(text: str, is_one: bool) -> None:
    assert is_object_id(text) is is_one


path_characters = st.characters(min_codepoint=0x20, max_codepoint=0x7E)


def respelled(text: str, choices: list[int]) -> str:
    """``text`` with every reserved character escaped, unreserved ones or not, digits in either case, by ``choices``."""
    out = []
    for index, character in enumerate(text):
        choice = choices[index % len(choices)]
        may_stay = quote(character, safe="/") == character
        escape = f"%{ord(character):02x}" if choice % 3 else f"%{ord(character):02X}"
        out.append(character if character == "/" or (may_stay and choice % 2) else escape)
    return "".join(out)


@given(st.text(path_characters, max_size=20), *[st.lists(st.integers(0, 5), min_size=1, max_size=20)] * 2)
def test_all_respellings_of_a_path_share_a_key(text: str, first: list[int], second: list[int]) -> None:
    if any(segment in (".", "..") for segment in text.split("/")):
        return
    assert key(OWN, f"/{respelled(text, first)}") == key(OWN, f"/{respelled(text, second)}")


@given(visible.map(lambda text: f"/{text}"))
def test_canonical_forms_are_fixed_points(raw: str) -> None:
    try:
        canonical = canonical_target(raw)
    except MalformedRequest:
        return
    again = canonical.path if canonical.query is None else f"{canonical.path}?{canonical.query}"
    assert canonical_target(again) == canonical


@given(visible, visible)
def test_no_key_holds_a_line_break_beyond_its_four(path: str, query: str) -> None:
    try:
        assert key(OWN, f"/{path}?{query}").count("\n") == 4
    except MalformedRequest:
        return


# -- manifests --------------------------------------------------------------------------------------------------

RULES = (
    ManifestRule("/files/????", "{base}/pieceshash"),
    ManifestRule("/files/*.bin", "https://{key_host}{path}.phf"),
)


def target(path_and_query: str, *, host: str = "9.dl.example", port: int = 80) -> Target:
    return Target(
        form=Form.HOST,
        service=replace(SIGNED, manifests=RULES),
        scheme="http",
        host=host,
        port=port,
        path_and_query=path_and_query,
        key="",
        object_id="",
    )


@pytest.mark.parametrize(
    ("asked", "url"),
    [
        (target("/files/1234?P1=1"), "http://9.dl.example/files/1234/pieceshash"),
        (target("/files/1234", port=8080), "http://9.dl.example:8080/files/1234/pieceshash"),
        (target("/files/%31234"), "http://9.dl.example/files/%31234/pieceshash"),
        (target("/files/x%2541.bin"), "https://dl.example/files/x%2541.bin.phf"),
        (target("/files/{path}.bin?x"), "https://dl.example/files/{path}.bin.phf"),
        (target("/files/1234/pieceshash"), None),
        (target("/other/1234"), None),
    ],
)
def test_the_first_rule_that_fits_the_decoded_path_gives_the_manifests_url(asked: Target, url: str | None) -> None:
    assert manifest_url(asked) == url
