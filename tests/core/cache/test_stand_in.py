"""Pages in place of payloads."""

from __future__ import annotations

import msgspec
import pytest

from cacheserver.core.cache.stand_in import is_stand_in
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.service import Service

PAYLOADS = Service(name="s", hosts=("a.test",), lifetime="immutable", mutable=("*.cab",))
OWN = msgspec.structs.replace(PAYLOADS, lifetime="rfc")


@pytest.mark.parametrize(
    ("service", "path", "status", "kinds", "stands_in"),
    [
        (PAYLOADS, "/files/x", 200, ["text/html"], True),
        (PAYLOADS, "/files/x?P1=a.html", 200, ["Text/HTML; charset=utf-8"], True),
        (PAYLOADS, "/files/x.exe", 206, [" text/html ;a"], True),
        (PAYLOADS, "/files/x.exe", 203, ["application/xhtml+xml"], True),
        (PAYLOADS, "/files/x.exe", 200, ["application/octet-stream", "text/html"], True),
        (PAYLOADS, "/files/x.exe", 404, ["text/html"], False),
        (PAYLOADS, "/files/x.HTM", 200, ["text/html"], False),
        (PAYLOADS, "/files/x.html?a", 200, ["text/html"], False),
        (PAYLOADS, "/files/x.cab", 200, ["text/html"], False),
        (PAYLOADS, "/files/x", 200, ["text/htmlx"], False),
        (PAYLOADS, "/files/x", 200, [], False),
        (OWN, "/files/x", 200, ["text/html"], False),
    ],
)
def test_html_is_no_payload_unless_its_name_says_so(
    service: Service, path: str, status: int, kinds: list[str], stands_in: bool
) -> None:
    fields = Fields(("Content-Type", kind) for kind in kinds)
    assert is_stand_in(service, path, status, fields) is stands_in
