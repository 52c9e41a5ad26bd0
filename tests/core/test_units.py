"""Sizes and addresses as operators write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.units import Size, address_text, format_size, is_loopback, parse_listen, parse_size, several


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1B", 1),
        ("64KiB", 65_536),
        ("64 KiB", 65_536),
        ("64kib", 65_536),
        ("1.5MiB", 1_572_864),
        ("100GiB", 100 * 2**30),
        ("100G", 100 * 2**30),
        ("500GB", 500 * 10**9),
        ("2TiB", 2**41),
        ("1PB", 10**15),
    ],
)
def test_size_is_read_with_binary_and_decimal_units(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "1XB", "GiB", "1iB", "1e9", "0x10", "1 2", "1GiB\n", "١GiB", "9" * 40]
)
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@given(st.integers(0, 1023), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB", "PiB"]))
def test_printed_size_reads_back(count: int, unit: str) -> None:
    size_bytes = parse_size(f"{count}{unit}")
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::]:80", ("::", 80)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65_535)),
        ("localhost:0", ("localhost", 0)),
        ("cache-1.example.com:443", ("cache-1.example.com", 443)),
    ],
)
def test_address_is_split_into_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "80", ":80", "0.0.0.0", "0.0.0.0:", "0.0.0.0:65536", "0.0.0.0:+1", "0.0.0.0:١", "::1:80", "[::1]", "[a]:80",
     "[1.2.3.4]:80", "1.2.3:80", "-a:80", "a b:80", "*:80", "a..b:80", "1.2.3.4:80\n"],
)  # fmt: skip
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_listen(text)


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", ""))


def test_a_size_of_the_settings_keeps_its_text_and_is_parsed_once() -> None:
    size = Size("1.5GiB")
    assert (size, size.bytes) == ("1.5GiB", 3 << 29)
    with pytest.raises(ValueError, match="not a size"):
        Size("much")


def test_one_thing_is_not_many() -> None:
    assert [several(number, "object") for number in (0, 1, 2)] == ["0 objects", "1 object", "2 objects"]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (1023, "1023B"),
        (1024, "1KiB"),
        (1536, "1.5KiB"),
        ((1 << 50) - 1, "1024TiB"),
        (3 << 50, "3PiB"),
        (-2048, "-2KiB"),
    ],
)
def test_a_size_is_printed_in_the_largest_unit_that_it_fills(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


def test_an_ipv6_address_before_a_port_stands_in_brackets() -> None:
    assert [address_text("::1", 80), address_text("127.0.0.1", 80)] == ["[::1]:80", "127.0.0.1:80"]
