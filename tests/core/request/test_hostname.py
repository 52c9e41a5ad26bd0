"""Host grammar: what is one canonical host, and which spellings are refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.errors import MalformedRequest
from cacheserver.core.request.hostname import (
    Authority,
    check_unused_host,
    decode_cache_host_origin,
    is_ip_literal,
    literal_address,
    parse_authority,
)

LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])

ACCEPTED = [
    ("dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com", None),
    ("DL.Delivery.MP.Microsoft.COM", "dl.delivery.mp.microsoft.com", None),
    ("dl.delivery.mp.microsoft.com.", "dl.delivery.mp.microsoft.com", None),
    ("dl.delivery.mp.microsoft.com.:80", "dl.delivery.mp.microsoft.com", 80),
    ("wsus", "wsus", None),
    ("wsus:8530", "wsus", 8530),
    ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
    ("a--b.example", "a--b.example", None),
    ("3com.example", "3com.example", None),
    ("1.2.3.4a", "1.2.3.4a", None),
    ("0xg", "0xg", None),
    (LABEL_63, LABEL_63, None),
    (NAME_253, NAME_253, None),
    (f"{NAME_253}.", NAME_253, None),
    ("192.0.2.1", "192.0.2.1", None),
    ("127.0.0.1:65535", "127.0.0.1", 65_535),
    ("[::1]", "[::1]", None),
    ("[2001:DB8:0:0::1]:443", "[2001:db8::1]", 443),
]

REFUSED = [
    "",
    ".",
    "..",
    ".example.com",
    "example..com",
    "example.com..",
    "-example.com",
    "example-.com",
    "my_host.example",
    "a" * 64,
    f"{NAME_253}a",
    "user@example.com",
    "user:pass@example.com",
    "example.com,evil.com",
    "example.com, evil.com",
    "example.com evil.com",
    " example.com",
    "example.com ",
    "example.com\t",
    "example.com\r\n",
    "example.com\n",
    "example.com\x00",
    "example.com/",
    "example.com?",
    "example.com#",
    "example.com\\",
    "*.example.com",
    "*",
    "exa%6dple.com",
    "bücher.example",
    "ｅxample.com",
    "example。com",
    "\u212a.example",
    "example.com:0",
    "example.com:00080",
    "example.com:080",
    "example.com:+80",
    "example.com:-1",
    "example.com: 80",
    "example.com:80 ",
    "example.com:65536",
    "example.com:99999",
    "example.com:999999",
    "example.com:8o",
    "example.com:٨٠",
    "example.com:80:80",
    "::1",
    "2001:db8::1",
    "[::1",
    "::1]",
    "[]",
    "[::1]x",
    "[::1]80",
    "[::1]:0",
    "[::g]",
    "[:::]",
    "[ ::1]",
    "[1.2.3.4]",
    "[v1.x]",
    "[::1/128]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[example.com]",
]

ODD_ADDRESSES = [
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "0x",
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "127.0.0.0x1",
    "127.0.0.1.",
    "1.2.3.4.5",
    "256.0.0.1",
    "1.2.3.999",
    "0",
    "1",
    "example.1",
    "example.0x1f",
    "example.007",
    "127.0.0.1.5",
    "①②⑦.0.0.1",
]


@pytest.mark.parametrize(("text", "host", "port"), ACCEPTED)
def test_one_canonical_form_for_every_accepted_spelling(text: str, host: str, port: int | None) -> None:
    assert parse_authority(text) == Authority(host, port)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_host_is_malformed(text: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_authority(text)


@pytest.mark.parametrize("text", ODD_ADDRESSES)
@pytest.mark.parametrize("port", ["", ":80"])
def test_odd_spellings_of_addresses_are_malformed(text: str, port: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_authority(text + port)


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        ("dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com", None),
        ("%5B::1%5D", "[::1]", None),
        ("%5b%3A%3a1%5d", "[::1]", None),
        ("%64l.example", "dl.example", None),
        ("wsus%3A8530", "wsus", 8530),
    ],
)
def test_cache_host_origin_is_decoded(raw: str, host: str, port: int | None) -> None:
    assert decode_cache_host_origin(raw) == Authority(host, port)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "%",
        "%5",
        "%zz",
        "example.com%",
        "%2564l.example",
        "127%2e1",
        "%30x7f000001",
        "example.com%00",
        "example.com%0d%0aX:1",
        "example.com%2fpath",
        "user%40example.com",
        "a%2Cb",
        "a+b",
        "b%C3%BCcher.example",
        "%EF%BD%85xample.com",
        "bücher.example",
        "%5B::ffff:127.0.0.1%5D",
        "http://example.com",
    ],
)
def test_cache_host_origin_that_is_no_host_after_one_decoding_is_malformed(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        decode_cache_host_origin(raw)


@pytest.mark.parametrize("text", ["cache_1.corp", "_x", "10.0.0.5:8080", "[::1]:8080", "Cache:80"])
def test_a_host_that_only_names_the_node_may_hold_underscores(text: str) -> None:
    check_unused_host(text)


@pytest.mark.parametrize("text", ["", "a, b", "u@a", "a:99999", "a b", "a,b", "127.1", "-a", "[::1"])
def test_a_host_that_only_names_the_node_must_still_be_one(text: str) -> None:
    with pytest.raises(MalformedRequest):
        check_unused_host(text)


@pytest.mark.parametrize(
    ("host", "literal"), [("127.0.0.1", True), ("[::1]", True), ("a.example", False), ("wsus", False), ("::1", False)]
)
def test_ip_literals_are_recognised(host: str, literal: bool) -> None:
    assert is_ip_literal(host) is literal


def test_a_literal_gives_its_address() -> None:
    assert literal_address("192.0.2.1") == IPv4Address("192.0.2.1")
    assert literal_address("[2001:db8::1]") == IPv6Address("2001:db8::1")


@given(st.text(max_size=40))
def test_parsing_is_idempotent_and_raises_nothing_else(text: str) -> None:
    try:
        authority = parse_authority(text)
    except MalformedRequest:
        return
    assert parse_authority(authority.host) == Authority(authority.host)


@pytest.mark.parametrize("text", ["secret-token@host", "secret-token.1", "[secret-token]", "h:secret-token"])
def test_messages_do_not_repeat_what_the_client_sent(text: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_authority(text)
    assert "secret" not in str(caught.value)


@given(st.ip_addresses(v=4))
def test_every_dotted_quad_is_itself(address: IPv4Address) -> None:
    assert parse_authority(str(address)).host == str(address)


@given(st.integers(min_value=0, max_value=2**32 - 1), st.sampled_from(["d", "x", "o"]))
def test_no_number_is_a_host(value: int, base: str) -> None:
    prefix = {"d": "", "x": "0x", "o": "0"}[base]
    with pytest.raises(MalformedRequest):
        parse_authority(f"{prefix}{value:{base}}")


@given(st.ip_addresses(v=6))
def test_every_plain_ipv6_literal_has_one_form(address: IPv6Address) -> None:
    if address.ipv4_mapped is None:
        assert parse_authority(f"[{address.exploded.upper()}]").host == f"[{address.compressed}]"
    else:
        with pytest.raises(MalformedRequest):
            parse_authority(f"[{address.exploded}]")
