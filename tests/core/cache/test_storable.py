"""What a shared cache may store: RFC 9111 §3 as a table."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cacheserver.core.cache.storable import NotStorable, Storable, storability
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service

OWN = Service(name="own", hosts=("h",), own=True)
SHIPPED = Service(name="shipped", hosts=("h",), lifetime="immutable")
BOTH = (OWN, SHIPPED)
Lines = dict[str, str]


def judge(
    service: Service, response: Lines, request: Lines | None = None, *, method: str = "GET", status: int = 200
) -> Storable | NotStorable:
    return storability(
        method=method,
        request=Fields((request or {}).items()),
        status=status,
        response=Fields(response.items()),
        service=service,
    )


def cc(value: str, **more: str) -> Lines:
    return {"Cache-Control": value, **more}


AUTH = {"Authorization": "Basic x"}
COOKIE = {"Set-Cookie": "a=b"}


@pytest.mark.parametrize("service", BOTH, ids=lambda service: service.name)
@pytest.mark.parametrize(
    ("response", "request_lines", "expected"),
    [
        (cc("max-age=60"), {}, Storable()),
        (cc("max-age=60, no-store"), {}, NotStorable("no-store")),
        (cc("max-age=60, no-store, must-understand"), {}, Storable()),
        (cc("max-age=60, private"), {}, NotStorable("private")),
        (cc('max-age=60, private="X-B, X-A"'), {}, Storable(("x-a", "x-b"))),
        (cc('max-age=60, no-cache="X-C", private="X-A"'), {}, Storable(("x-a", "x-c"))),
        (cc("no-cache", ETag='"e"'), {}, Storable()),
        (cc("max-age=60", Vary="*"), {}, NotStorable("vary")),
        (cc("max-age=60", Vary="Accept, *"), {}, NotStorable("vary")),
        (cc("max-age=60", Vary="Accept"), {}, Storable()),
        (cc("max-age=60"), AUTH, NotStorable("authorization")),
        (cc("max-age=60, public"), AUTH, Storable()),
        (cc("max-age=60, must-revalidate"), AUTH, Storable()),
        (cc("s-maxage=60"), AUTH, Storable()),
        (cc("max-age=60, proxy-revalidate"), AUTH, NotStorable("authorization")),
        (cc("public, private"), {}, NotStorable("private")),
    ],
)
def test_directives_decide_for_every_service(
    service: Service, response: Lines, request_lines: Lines, expected: object
) -> None:
    assert judge(service, response, request_lines) == expected


@pytest.mark.parametrize("service", BOTH, ids=lambda service: service.name)
def test_only_answers_to_get_are_stored_and_only_where_the_service_may_be(service: Service) -> None:
    kept = cc("max-age=60")
    assert judge(service, kept, status=206) == Storable()
    for method in ("HEAD", "POST", "get"):
        assert judge(service, kept, method=method) == NotStorable("method")
    assert judge(replace(service, cacheable=False), kept) == NotStorable("service")


@pytest.mark.parametrize(
    ("response", "own", "shipped"),
    [
        ({}, NotStorable("no-lifetime"), Storable()),
        (cc("public"), NotStorable("no-lifetime"), Storable()),
        ({"ETag": '"e"'}, Storable(), Storable()),
        ({"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, Storable(), Storable()),
        ({"Expires": "0"}, Storable(), Storable()),
        (cc("max-age=60") | COOKIE, NotStorable("set-cookie"), Storable(("set-cookie",))),
        (cc("max-age=60, public") | COOKIE, Storable(), Storable(("set-cookie",))),
        (cc("s-maxage=60") | COOKIE, Storable(), Storable(("set-cookie",))),
        (cc('max-age=60, no-cache="Set-Cookie"') | COOKIE, Storable(("set-cookie",)), Storable(("set-cookie",))),
    ],
)
def test_own_services_follow_the_rfc_where_shipped_ones_have_their_own_rule(
    response: Lines, own: object, shipped: object
) -> None:
    assert judge(OWN, response) == own
    assert judge(SHIPPED, response) == shipped


def test_clients_no_store_counts_for_own_services_only() -> None:
    assert judge(OWN, cc("max-age=60"), cc("no-store")) == NotStorable("request-no-store")
    assert judge(SHIPPED, cc("max-age=60"), cc("no-store")) == Storable()
