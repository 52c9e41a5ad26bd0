"""Which lines pass: hop-by-hop, stored, merged, upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.cache.upstream_request import request_fields_upstream
from cacheserver.core.http.field_rules import (
    end_to_end,
    is_field_value,
    is_token,
    list_members,
    merge_304,
    storable_fields,
)
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service


def service(*names: str) -> Service:
    return Service(name="s", hosts=("h",), forward_fields=names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ()),
        (" a ,\tb,,", ("a", "b")),
        ('a="b, c", d', ('a="b, c"', "d")),
        (r'"a\", b", c', (r'"a\", b"', "c")),
        ('a="b, c', ('a="b', "c")),
        ('"a, b", "c, d"', ('"a, b"', '"c, d"')),
        ('"x", "y, z', ('"x"', '"y', "z")),
    ],
)
def test_lists_are_split_outside_of_quoted_strings(value: str, expected: tuple[str, ...]) -> None:
    assert list_members(value) == expected


def test_splitting_a_hostile_list_takes_one_pass() -> None:
    # A rescan per quote would make 10^9 steps of this.
    assert len(list_members('"\\' * 50_000 + ",x" * 10)) == 11


@pytest.mark.parametrize(
    "dropped",
    ["Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authenticate", "X-Mine"],
)
def test_fields_of_the_connection_end_here(dropped: str) -> None:
    fields = Fields([("Connection", "close, x-MINE"), (dropped, "v"), ("ETag", '"e"'), ("X-Other", "1")])
    assert end_to_end(fields) == Fields([("ETag", '"e"'), ("X-Other", "1")])


@pytest.mark.parametrize(
    "dropped",
    ["Content-Length", "content-range", "Age", "Via", "Cache-Status", "Accept-Ranges", "Upgrade", "X-Private"],
)
def test_what_the_node_writes_itself_is_not_stored(dropped: str) -> None:
    kept = [("Date", "d"), ("X-Unknown", "1"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")]
    assert storable_fields(Fields([*kept, (dropped, "v")]), ("x-private",)) == Fields(kept)


def test_named_fields_are_stripped_without_regard_to_case() -> None:
    assert storable_fields(Fields([("set-Cookie", "a=b"), ("A", "1")]), ("Set-Cookie",)) == Fields([("A", "1")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nY: b"),
        ("X", "a\nb"),
        ("X", "a\x00"),
        ("X", "\x1b[2J"),
        ("X", "\x7f"),
        ("X", "\u20ac"),
        ("X Y", "a"),
        ("", "a"),
        ("X:", "a"),
        ("X\r\nY", "a"),
        ("Ä", "a"),
    ],
)
def test_a_line_that_could_break_a_head_goes_nowhere(name: str, value: str) -> None:
    line = Fields([(name, value)])
    assert not (is_token(name) and is_field_value(value))
    assert storable_fields(line) == merge_304(Fields(), line) == request_fields_upstream(line, service("*")) == Fields()


def test_tab_and_latin_1_are_values() -> None:
    fields = Fields([("X", "a\tb é \xff"), ("Y", "")])
    assert storable_fields(fields) == fields


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=6))
def test_stored_lines_are_a_well_formed_part_of_the_answer(lines: list[tuple[str, str]]) -> None:
    stored = list(storable_fields(Fields(lines)))
    assert all(is_token(name) and is_field_value(value) and (name, value) in lines for name, value in stored)
    assert list(storable_fields(Fields(stored))) == stored


def test_304_replaces_all_lines_of_the_names_that_it_carries() -> None:
    stored = Fields([("A", "1"), ("a", "2"), ("B", "3"), ("Content-Type", "text/plain"), ("Content-Encoding", "br")])
    update = Fields(
        [
            ("A", "9"),
            ("C", "4"),
            ("Content-Length", "0"),
            ("Content-Encoding", "gzip"),
            ("Set-Cookie", "s=1"),
            ("Age", "5"),
            ("Connection", "B"),
            ("B", "hop"),
        ]
    )
    merged = merge_304(stored, update)
    assert merged.lines("A") == ("9",)
    assert dict(merged) == {
        "A": "9",
        "B": "3",
        "C": "4",
        "Content-Type": "text/plain",
        "Content-Encoding": "br",
    }


def test_a_304_without_date_does_not_keep_the_old_one() -> None:
    stored = Fields([("Date", "then"), ("A", "1")])
    assert merge_304(stored, Fields()) == Fields([("A", "1")])
    assert merge_304(stored, Fields([("Date", "now")])).lines("Date") == ("now",)


REQUEST = Fields(
    [
        ("Host", "h"),
        ("X-Token", "t"),
        ("Authorization", "Basic x"),
        ("user-AGENT", "ua"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", '"e"'),
        ("If-Range", '"e"'),
        ("If-Modified-Since", "d"),
        ("Content-Length", "0"),
        ("Expect", "100-continue"),
        ("Via", "1.1 x"),
        ("Cache-Status", "x; hit"),
        ("Proxy-Authorization", "Basic y"),
        ("TE", "trailers"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
    ]
)


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        ((), []),
        (("x-token",), [("X-Token", "t")]),
        (("USER-agent", "Absent"), [("user-AGENT", "ua")]),
        (("Host", "Range", "If-Range", "Via", "Proxy-Authorization", "X-Hop", "TE"), []),
        (("*",), [("X-Token", "t"), ("Authorization", "Basic x"), ("user-AGENT", "ua")]),
    ],
)
def test_only_the_fields_that_the_service_names_go_upstream(
    forward: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert list(request_fields_upstream(REQUEST, service(*forward))) == expected


REWRITES = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-SSL",
    "Front-End-Https",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-Original-Host",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-URL-Scheme",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Forwarded",
    "X-Forwarded-Uri",
    "X-Original-URI",
    "X-Original-Forwarded-Host",
    "X-Envoy-Original-Path",
    "X-Middleware-Subrequest",
    "X-HTTP-Path-Override",
    "X-Real-Host",
    "Base-Url",
    "X_Forwarded_Host",
    "X-Forwarded_Host",
    "X.Forwarded.Host",
    "X_Original_URL",
    "Any_Other",
]


@pytest.mark.parametrize("name", REWRITES)
def test_a_field_that_names_another_host_path_or_method_goes_upstream_only_by_name(name: str) -> None:
    line = Fields([(name, "x")])
    assert request_fields_upstream(line, service("*")) == Fields()
    assert request_fields_upstream(line, service("*", name)) == line
