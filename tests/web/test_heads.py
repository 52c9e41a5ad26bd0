"""Response heads as bytes: spelling, order, framing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Form
from cacheserver.web.heads import (
    Head,
    Lines,
    hit_lines,
    object_lines,
    relayed_lines,
    text_lines,
    without_representation,
)
from tests.support.stored import representation

VIA = "1.1 cacheserver-0"
STATUS = "cacheserver; hit"


def object_head(*fields: tuple[str, str], age_s: float = 3.9) -> Lines:
    return object_lines(representation(fields=fields), form=Form.HOST, age_s=age_s, via=VIA, cache_status=STATUS)


@pytest.mark.parametrize(
    ("head", "close", "http_10", "expected"),
    [
        (Head(200, (("A", "b"),), 5), False, False, "HTTP/1.1 200 OK|A: b|Content-Length: 5"),
        (Head(200, (), 0), True, False, "HTTP/1.1 200 OK|Content-Length: 0|Connection: close"),
        (Head(200, (), 5), False, True, "HTTP/1.1 200 OK|Content-Length: 5|Connection: keep-alive"),
        (Head(200, (), 5), True, True, "HTTP/1.1 200 OK|Content-Length: 5|Connection: close"),
        (Head(200, (), None), False, False, "HTTP/1.1 200 OK|Transfer-Encoding: chunked"),
        (Head(200, (), None), True, True, "HTTP/1.1 200 OK|Connection: close"),
        (Head(304, (), None), False, False, "HTTP/1.1 304 Not Modified"),
        (Head(204, (), None), False, False, "HTTP/1.1 204 No Content"),
        (Head(299, (), 1), False, False, "HTTP/1.1 299 Unknown|Content-Length: 1"),
    ],
)
def test_a_head_is_framed_by_its_length_version_and_end(head: Head, close: bool, http_10: bool, expected: str) -> None:
    data = head.encode(close=close, http_10=http_10)
    assert data == (expected.replace("|", "\r\n") + "\r\n\r\n").encode()


def test_octets_above_ascii_go_out_one_to_one_and_others_not_at_all() -> None:
    assert b"X: \xe9?\r\n" in Head(200, (("X", "\xe9\u20ac"),), 0).encode(close=False, http_10=False)


def test_an_object_keeps_its_fields_in_order_and_gets_the_nodes_own() -> None:
    assert object_head(("ETag", '"1"'), ("content-type", "a/b")) == (
        ("ETag", '"1"'),
        ("content-type", "a/b"),
        ("Accept-Ranges", "bytes"),
        ("Via", VIA),
        ("Cache-Status", STATUS),
        ("Age", "3"),
    )


@pytest.mark.parametrize(
    "name", ["age", "cache-status", "Content-LENGTH", "content-range", "Accept-Ranges", "connection"]
)
def test_what_the_node_writes_itself_is_not_taken_from_the_store(name: str) -> None:
    assert "stored" not in dict(object_head((name, "stored"))).values()


def test_a_stored_via_comes_before_the_nodes_own() -> None:
    assert ("Via", f"1.0 other, {VIA}") in object_head(("Via", "1.0 other"))


def test_an_age_is_bounded() -> None:
    assert ("Age", str(2**31)) in object_head(age_s=1e30)


def test_a_bodiless_status_says_nothing_of_a_body() -> None:
    lines = (("ETag", '"1"'), ("content-type", "a/b"), ("Last-Modified", "x"), ("Cache-Control", "y"))
    assert without_representation(lines) == (("ETag", '"1"'), ("Cache-Control", "y"))


@pytest.mark.parametrize("length_bytes", [0, None])
def test_a_204_has_neither_length_nor_coding(length_bytes: int | None) -> None:
    assert Head(204, (), length_bytes).encode(close=False, http_10=False) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_a_relayed_answer_loses_what_belongs_to_one_hop() -> None:
    fields = Fields(
        (
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "5"),
            ("Set-Cookie", "a=b"),
            ("Set-Cookie", "c=d"),
            ("Via", "1.1 parent"),
            ("Cache-Status", "parent; hit"),
        )
    )
    assert relayed_lines(fields, form=Form.HOST, via=VIA, cache_status=STATUS) == (
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d"),
        ("Via", f"1.1 parent, {VIA}"),
        ("Cache-Status", f"parent; hit, {STATUS}"),
    )


@pytest.mark.parametrize(
    "line", [("X-A", "a\x1b[31m"), ("X-A", "a\x00"), ("X-A", "a\rB: c"), ("X\x01A", "a"), ("X A", "a")]
)
def test_a_relayed_line_with_control_characters_reaches_no_client(line: tuple[str, str]) -> None:
    lines = relayed_lines(Fields((line, ("X-B", "\xe4\tb"))), form=Form.HOST, via=VIA, cache_status=STATUS)
    assert [name for name, _ in lines] == ["X-B", "Via", "Cache-Status"]


def test_a_relayed_content_range_is_spelled_as_clients_look_it_up() -> None:
    lines = relayed_lines(Fields((("content-range", "bytes 0-1/2"),)), form=Form.HOST, via=VIA, cache_status=STATUS)
    assert lines[0] == ("Content-Range", "bytes 0-1/2")


def test_the_nodes_own_texts_are_not_cached() -> None:
    lines = dict(text_lines("now", ("Allow", "GET")))
    assert (lines["Cache-Control"], lines["Date"], lines["Allow"]) == ("no-store", "now", "GET")


def test_no_head_names_a_server_version() -> None:
    data = Head(200, object_lines(replace(representation()), form=Form.HOST, age_s=0, via=VIA, cache_status=STATUS), 1)
    assert b"Server" not in data.encode(close=False, http_10=False)


def test_a_warm_part_carries_no_digest_of_the_whole_message() -> None:
    lines = hit_lines(
        representation(fields=(("Content-MD5", "x"), ("ETag", '"1"'))), form=Form.HOST, via=VIA, lifetime_s=60.0
    )
    whole, part = lines.encode(200, 0.0), lines.encode(206, 0.0)
    assert (b"Content-MD5" in whole, b"Content-MD5" in part) == (True, False)
    assert b"ETag" in part


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(
    "name",
    ["Strict-Transport-Security", "alt-svc", "Clear-Site-Data", "Set-Cookie", "NEL", "Report-To", "Public-Key-Pins"],
)
def test_what_an_origin_says_of_its_host_is_not_said_of_the_node(name: str, form: Form) -> None:
    rep = representation(fields=((name, "x"), ("ETag", '"1"')))
    kept = [name, "ETag"] if form is not Form.CACHE_HOST else ["ETag"]
    for lines in (
        object_lines(rep, form=form, age_s=0, via=VIA, cache_status=STATUS),
        relayed_lines(rep.fields, form=form, via=VIA, cache_status=STATUS),
    ):
        assert [each for each, _ in lines if each in (name, "ETag")] == kept
    head = hit_lines(rep, form=form, via=VIA, lifetime_s=60.0).encode(200, 0.0).decode()
    assert (f"{name}: x" in head, "ETag" in head) == (len(kept) == 2, True)
