"""Vary: names, normalised values, and keys that never collide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.fields import Fields
from cacheserver.core.http.vary import ABSENT, selecting_values, variant_key, vary_names


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ()),
        ([""], ()),
        (["Accept-Encoding"], ("accept-encoding",)),
        (["b, A ,b"], ("a", "b")),
        (["b", "a"], ("a", "b")),
        (["*"], None),
        (["a, *"], None),
        (["a", "*"], None),
        (["a b"], None),
    ],
)
def test_names_of_selecting_fields(lines: list[str], expected: tuple[str, ...] | None) -> None:
    assert vary_names(Fields(("Vary", line) for line in lines)) == expected


def test_values_are_joined_and_trimmed_around_commas() -> None:
    request = Fields([("Accept-Encoding", "gzip ,  br"), ("accept-encoding", "\tzstd "), ("X", "")])
    assert selecting_values(("accept-encoding", "x", "y"), request) == ("gzip,br,zstd", "", ABSENT)


def test_white_space_inside_quotes_still_counts() -> None:
    one, other = Fields([("A", '"x, y"')]), Fields([("A", '"x,y"')])
    assert selecting_values(("a",), one) != selecting_values(("a",), other)


def test_without_selecting_fields_the_primary_key_stands() -> None:
    assert variant_key("http://h/p", (), Fields([("A", "1")])) == "http://h/p"


def test_order_and_case_of_names_do_not_matter() -> None:
    request = Fields([("A", "1"), ("B", "2")])
    assert variant_key("k", ("B", "a"), request) == variant_key("k", ("A", "b", "a"), request)


VALUES = st.one_of(st.none(), st.text(alphabet='ab"=\n:[]\\', max_size=6))


@given(st.tuples(VALUES, VALUES), st.tuples(VALUES, VALUES))
def test_keys_are_equal_exactly_when_all_selecting_values_are(
    one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    def request(values: tuple[str | None, ...]) -> Fields:
        return Fields((name, value) for name, value in zip("ab", values, strict=True) if value is not None)

    names = ("a", "b")
    same = selecting_values(names, request(one)) == selecting_values(names, request(other))
    assert same == (variant_key("k", names, request(one)) == variant_key("k", names, request(other)))


def test_an_absent_field_does_not_match_an_empty_one() -> None:
    assert variant_key("k", ("a",), Fields()) != variant_key("k", ("a",), Fields([("A", "")]))
