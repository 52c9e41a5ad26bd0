"""Admission: the three forms, which one wins, and that nothing gets in beside the allow-list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.errors import HostNotAllowed, MalformedRequest, MethodNotAllowed, MethodUnknown, RequestError
from cacheserver.core.request.admission import check_method, parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.keys import object_id
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Form, Target

DL = "dl.delivery.mp.microsoft.com"
GUID = "7bc846e0-af9c-49be-a03d-bb04428c9bb5"
ALLOWLIST = AllowList(
    [
        Service(
            name="signed",
            hosts=(DL, f"*.{DL}", "*.download.windowsupdate.com"),
            query="drop-listed",
            query_drop=("P1", "P2", "P3", "P4", "cacheHostOrigin"),
            collapse_slashes=True,
        ),
        Service(name="wsus", hosts=("wsus",), scheme="http", port=8530, own=True),
        Service(name="plain", hosts=("a.example", "[::1]", "192.0.2.1"), own=True),
        Service(name="tls", hosts=("tls.example",), scheme="https", own=True),
    ]
)


def admit(raw: str, *hosts: str, tls: bool = False, http_10: bool = False) -> Target:
    return parse_target(raw, hosts, tls=tls, allowlist=ALLOWLIST, http_10=http_10)


# -- forms ------------------------------------------------------------------------------------------------------


def test_cache_host_form_takes_the_origin_from_the_query_and_keeps_every_other_byte() -> None:
    query = "P1=1700000000&P2=404&P3=2&P4=abc%2bdef%3d%3d"
    found = admit(f"/filestreamingservice/files/{GUID}?{query}&cacheHostOrigin={DL}", "10.0.0.5:8080")
    assert (found.form, found.scheme, found.host, found.port) == (Form.CACHE_HOST, "http", DL, 80)
    assert found.path_and_query == f"/filestreamingservice/files/{GUID}?{query}"
    assert found.service.name == "signed"
    assert found.key == f"signed\n*\n{DL}\n/filestreamingservice/files/{GUID}\n"
    assert found.object_id == object_id(found.key)


@pytest.mark.parametrize(
    ("raw", "host", "path_and_query"),
    [
        (
            "/mscomtest/wuidt.gif?cacheHostOrigin=au.download.windowsupdate.com",
            "au.download.windowsupdate.com",
            "/mscomtest/wuidt.gif",
        ),
        (
            f"/filestreamingservice/files/{GUID}/Microsoft.png?cacheHostOrigin={DL}",
            DL,
            f"/filestreamingservice/files/{GUID}/Microsoft.png",
        ),
        ("/a?cacheHostOrigin=%5B::1%5D", "[::1]", "/a"),
        (f"/a?cacheHostOrigin=a.example&cacheHostOrigin={DL}", DL, "/a"),
        (f"/a?cacheHostOrigin=not%20a%20host&cacheHostOrigin={DL}", DL, "/a"),
        (f"/a?cacheHostOrigin={DL.upper()}.", DL, "/a"),
    ],
)
def test_the_last_cache_host_origin_names_the_origin(raw: str, host: str, path_and_query: str) -> None:
    found = admit(raw, "cache.corp")
    assert (found.form, found.host, found.path_and_query) == (Form.CACHE_HOST, host, path_and_query)


@pytest.mark.parametrize("host_line", ["a.example", "10.0.0.5", "[fd00::5]:8080", "cache_1", "cache.corp:80"])
def test_cache_host_origin_wins_over_any_grammatical_host(host_line: str) -> None:
    found = admit(f"/a?cacheHostOrigin={DL}", host_line)
    assert (found.host, found.port) == (DL, 80)


@pytest.mark.parametrize("host_line", ["", "a, b", "u@a", "a:99999", "a b", "127.1"])
def test_a_host_that_is_none_is_malformed_in_every_form(host_line: str) -> None:
    for raw in ("/a", f"/a?cacheHostOrigin={DL}", f"http://{DL}/a"):
        with pytest.raises(MalformedRequest):
            admit(raw, host_line)


def test_host_form_takes_the_origin_from_host_and_ignores_its_port() -> None:
    found = admit("/a?b=1", f"{DL}:8080")
    assert (found.form, found.scheme, found.host, found.port) == (Form.HOST, "http", DL, 80)
    assert found.path_and_query == "/a?b=1"


@pytest.mark.parametrize(
    ("raw", "scheme", "host", "path_and_query"),
    [
        (f"http://{DL}/a?b=1", "http", DL, "/a?b=1"),
        (f"HTTP://{DL.upper()}:80/a", "http", DL, "/a"),
        (f"http://{DL}", "http", DL, "/"),
        (f"http://{DL}?b=1", "http", DL, "/?b=1"),
        ("https://a.example/a", "https", "a.example", "/a"),
        ("https://a.example:443/a", "https", "a.example", "/a"),
        (f"http://{DL}//x//y", "http", DL, "//x//y"),
        (f"http://{DL}/http://a.example/", "http", DL, "/http://a.example/"),
        ("http://[::1]/a", "http", "[::1]", "/a"),
    ],
)
def test_absolute_form_overrides_host(raw: str, scheme: str, host: str, path_and_query: str) -> None:
    found = admit(raw, "somewhere.else")
    assert (found.form, found.scheme, found.host) == (Form.ABSOLUTE, scheme, host)
    assert found.path_and_query == path_and_query


@pytest.mark.parametrize("authority", ["a b", "u@a", "127.1", "a:99999"])
def test_an_absolute_form_target_without_a_host_is_malformed_beside_cache_host_origin_too(authority: str) -> None:
    with pytest.raises(MalformedRequest):
        admit(f"http://{authority}/a?cacheHostOrigin={DL}", "cache.corp")


def test_cache_host_origin_wins_over_an_absolute_form_target() -> None:
    found = admit(f"http://cache_1.corp:8080/a?P1=1&cacheHostOrigin={DL}", "cache_1.corp:8080")
    assert (found.form, found.host, found.port, found.path_and_query) == (Form.CACHE_HOST, DL, 80, "/a?P1=1")


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "*",
        "a",
        f"{DL}:443",
        f"{DL}/a",
        f"ftp://{DL}/a",
        f"file:///{DL}",
        f"http:/{DL}/a",
        f"http:{DL}/a",
        f"http:\\\\{DL}\\a",
        "http:///a",
        "http://",
        f"http://u@{DL}/a",
        f"http://u:p@{DL}/a",
        f"http://{DL}:99999/a",
        f"http://a.example\\@{DL}/a",
        f"http://{DL}#/a",
        f"http://{DL}/a#b",
        f" http://{DL}/a",
        "?a",
        "/a b",
        "/../a",
        "/%2e%2e/a",
        "/a%00",
        "/a#b",
        "/a?cacheHostOrigin=",
        "/a?cacheHostOrigin=127.1",
        "/a?cacheHostOrigin=0x7f.1",
        "/a?cacheHostOrigin=2130706433",
        "/a?cacheHostOrigin=%5B::ffff:127.0.0.1%5D",
        "/a?cacheHostOrigin=::1",
        f"/a?cacheHostOrigin={DL}%00",
        f"/a?cacheHostOrigin={DL}%2fx",
        f"/a?cacheHostOrigin=u%40{DL}",
        f"/a?cacheHostOrigin={DL},a.example",
        f"/a?cacheHostOrigin={DL}#",
        f"/a?cacheHostOrigin={DL}&cacheHostOrigin=",
        f"/../a?cacheHostOrigin={DL}",
        "/" + "a" * 16_384,
        "/?cacheHostOrigin=" + "a" * 16_384,
    ],
)
def test_what_follows_no_form_is_malformed(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        admit(raw, "a.example")


# -- Host lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", ["/a", f"/a?cacheHostOrigin={DL}", f"http://{DL}/a"])
def test_http_11_needs_exactly_one_host_line(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        admit(raw)
    with pytest.raises(MalformedRequest):
        admit(raw, "a.example", "a.example")
    with pytest.raises(MalformedRequest):
        admit(raw, "a.example", "a.example", http_10=True)


def test_http_10_may_do_without_host_when_something_else_names_the_origin() -> None:
    assert admit(f"/a?cacheHostOrigin={DL}", http_10=True).host == DL
    assert admit(f"http://{DL}/a", http_10=True).host == DL
    assert admit("/a", "a.example", http_10=True).host == "a.example"
    with pytest.raises(MalformedRequest):
        admit("/a", http_10=True)


# -- who is allowed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "delivery.mp.microsoft.com", f"{DL}.evil.example", "127.0.0.1"])
def test_hosts_of_no_service_are_refused_in_every_form(host: str) -> None:
    for raw, host_line in ((f"/a?cacheHostOrigin={host}", DL), ("/a", host), (f"http://{host}/a", DL)):
        with pytest.raises(HostNotAllowed) as caught:
            admit(raw, host_line)
        assert caught.value.host == host


def test_a_refusal_names_the_host_but_not_the_query() -> None:
    with pytest.raises(HostNotAllowed) as caught:
        admit("/a?P4=secret&cacheHostOrigin=evil.example", DL)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "host_line", "tls", "scheme", "port"),
    [
        ("/a", "a.example", False, "http", 80),
        ("/a", "a.example", True, "https", 443),
        ("/a?cacheHostOrigin=a.example", "c", True, "https", 443),
        ("http://a.example/a", "c", True, "http", 80),
        ("https://a.example/a", "c", False, "https", 443),
        ("/a", "wsus:8530", False, "http", 8530),
        ("/a", "wsus", True, "http", 8530),
        ("http://wsus:8530/a", "c", False, "http", 8530),
        ("http://wsus:80/a", "c", False, "http", 8530),
        ("http://wsus/a", "c", False, "http", 8530),
        ("https://wsus:443/a", "c", False, "http", 8530),
        ("/a?cacheHostOrigin=wsus", "c", False, "http", 8530),
        ("/a?cacheHostOrigin=wsus%3A8530", "c", False, "http", 8530),
        ("/a", "tls.example", False, "https", 443),
        ("http://tls.example/a", "c", False, "https", 443),
    ],
)
def test_scheme_and_port_are_the_services_or_as_requested(
    raw: str, host_line: str, tls: bool, scheme: str, port: int
) -> None:
    found = admit(raw, host_line, tls=tls)
    assert (found.scheme, found.port) == (scheme, port)


@pytest.mark.parametrize(
    "raw",
    [
        "http://a.example:8080/a",
        "http://a.example:443/a",
        "https://a.example:80/a",
        "http://wsus:8531/a",
        "http://192.0.2.1:22/a",
        "/a?cacheHostOrigin=a.example:22",
        "/a?cacheHostOrigin=%5B::1%5D:22",
    ],
)
def test_a_client_cannot_choose_the_origins_port(raw: str) -> None:
    with pytest.raises(HostNotAllowed):
        admit(raw, "c")


@pytest.mark.parametrize(
    "spelling",
    [
        (f"/f//x?P1=1&cacheHostOrigin={DL}", "c"),
        (f"/f/%78?cacheHostOrigin={DL.upper()}", "c:80"),
        ("/f/x?P4=z", DL),
        ("/f/x", f"{DL}.:80"),
        (f"http://{DL}/f/x?P1=2", "c"),
        (f"https://{DL}:443/f/x", "c"),
    ],
)
def test_equivalent_requests_share_a_key_in_every_form(spelling: tuple[str, str]) -> None:
    assert admit(*spelling).key == f"signed\n*\n{DL}\n/f/x\n"


# -- methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_and_head_are_admitted(method: str) -> None:
    check_method(method)


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "PURGE"])
def test_other_methods_are_refused(method: str) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        check_method(method)
    assert caught.value.method == method


@pytest.mark.parametrize("method", ["get", "FOO", "", "GET "])
def test_a_method_of_no_registry_is_not_implemented(method: str) -> None:
    with pytest.raises(MethodUnknown) as caught:
        check_method(method)
    assert caught.value.own_status == 501


def test_braces_bars_and_carets_go_upstream_as_they_came() -> None:
    asked = parse_target("/a{b}|^`?c={d}", (DL,), tls=False, allowlist=ALLOWLIST)
    escaped = parse_target("/a%7bb%7D%7C%5E%60?c=%7Bd%7D", (DL,), tls=False, allowlist=ALLOWLIST)
    assert asked.path_and_query == "/a{b}|^`?c={d}"
    assert asked.key == escaped.key


# -- properties -------------------------------------------------------------------------------------------------

FORMS = ["/", "//", "a", "..", ".", "?", "&", "=", "P1", "cacheHostOrigin=", "http://", "https://", "@", ":", ";", "\\"]
HOSTS = [DL, "evil.example", "a.example", "127.0.0.1", "%5B::1%5D", ":80", ":22"]
OCTETS = ["%41", "%2F", "%00", "#", " ", "é", "\n"]
pieces = st.sampled_from([*FORMS, *HOSTS, *OCTETS])
targets = st.lists(pieces, max_size=12).map("".join)


def is_subsequence(short: str, long: str) -> bool:
    rest = iter(long)
    return all(character in rest for character in short)


@given(targets.map("/".__add__) | targets, st.sampled_from([DL, "a.example", "evil.example", "c_1:80", "", "x y"]))
def test_whatever_is_asked_the_host_is_allowed_and_the_bytes_are_the_clients(raw: str, host_line: str) -> None:
    try:
        found = admit(raw, host_line)
    except RequestError:
        return
    assert ALLOWLIST.match(found.host) is found.service
    assert found.port in (80, 443, found.service.port)
    assert found.path_and_query.startswith("/")
    assert is_subsequence(found.path_and_query.removeprefix("/"), raw)
    assert found.path_and_query.isascii()
    assert not any(character in found.path_and_query for character in " \r\n\x00#")
    assert found.object_id == object_id(found.key)


@given(st.text(alphabet="abP1234=%&+/", max_size=30), st.sampled_from(["", "x=1&"]))
def test_path_and_query_is_the_request_less_the_pair(query: str, before: str) -> None:
    url = f"/f?{before}{query}"
    try:
        found = admit(f"{url}&cacheHostOrigin={DL}", "c")
    except MalformedRequest:
        return
    assert found.path_and_query == url
