"""Which requests upstream are the same, and which of them speak for every client of an object."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cacheserver.core.cache.question import is_private, question, speaks_for_all
from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.validators import Validators
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Form, Target

OWN = Service(name="own", hosts=("a.test",), own=True, forward_fields=("*",))
SIGNED = Service(name="signed", hosts=("a.test",), query="drop-listed", query_drop=("P1",))
TARGET = Target(Form.HOST, OWN, "http", "a.test", 80, "/a", "key", "0" * 32)
KNOWN = Representation(
    key="key",
    object_id="0" * 32,
    service="own",
    length_bytes=1,
    piece_size_bytes=1,
    fields=Fields(),
    validators=Validators(),
    request_time_s=0,
    response_time_s=0,
    origin="http://a.test",
    path_and_query="/a",
)
OF_THE_NODE = (("Accept-Encoding", "identity"), ("Via", "1.1 cacheserver-0000000000000000"))


@pytest.mark.parametrize(
    "field",
    [
        ("Authorization", "Basic eDp5"), ("authorization", ""), ("Cookie", "a=b"), ("Cache-Control", "no-store"),
        ("Cache-Control", "no-cache, NO-STORE"),
    ],
)  # fmt: skip
def test_credentials_cookies_and_no_store_ask_for_an_answer_of_ones_own(field: tuple[str, str]) -> None:
    fields = Fields((*OF_THE_NODE, field))
    assert is_private(TARGET, fields)
    assert not speaks_for_all(KNOWN, TARGET, fields)
    assert not speaks_for_all(replace(KNOWN, vary=("authorization", "cookie")), TARGET, fields)


@pytest.mark.parametrize(
    "field",
    [
        ("Origin", "http://evil.test"), ("Referer", "http://evil.test"), ("X-Anything", "1"), ("Accept", "text/evil"),
        ("Accept-Language", "xx"), ("Accept-Encoding", "gzip"), ("User-Agent", "evil"), ("Pragma2", "no-cache"),
    ],
)  # fmt: skip
def test_what_a_field_of_one_client_may_have_led_to_ends_no_object_of_others(field: tuple[str, str]) -> None:
    others = tuple(line for line in OF_THE_NODE if line[0] != field[0])
    fields = Fields((*others, field))
    assert not is_private(TARGET, fields)
    assert not speaks_for_all(KNOWN, TARGET, fields)
    assert speaks_for_all(replace(KNOWN, vary=(field[0].lower(),)), TARGET, fields), "it selects this very variant"


@pytest.mark.parametrize(
    "fields", [(), (("Cache-Control", "no-cache, max-age=0, only-if-cached"),), (("Pragma", "no-cache"),)]
)
def test_a_request_that_nothing_tells_from_others_speaks_for_all(fields: tuple[tuple[str, str], ...]) -> None:
    assert speaks_for_all(KNOWN, TARGET, Fields((*OF_THE_NODE, *fields)))


@pytest.mark.parametrize(
    "target",
    [
        replace(TARGET, path_and_query="//a"),
        replace(TARGET, path_and_query="/%61"),
        replace(TARGET, host="7.a.test"),
        replace(TARGET, scheme="https", port=443),
        replace(TARGET, port=8080),
        replace(TARGET, service=SIGNED, path_and_query="/a?P1=bad"),
        replace(TARGET, service=SIGNED, path_and_query="/a?"),
    ],
)
def test_another_spelling_host_or_token_does_not_speak_for_the_object(target: Target) -> None:
    assert not speaks_for_all(KNOWN, target, Fields(OF_THE_NODE))


def test_a_request_is_the_same_only_with_the_same_url_and_fields() -> None:
    fields = Fields((("A", "1"), ("B", "2")))
    assert question(TARGET, fields) == question(replace(TARGET, form=Form.CACHE_HOST), Fields((("a", "1"), ("b", "2"))))
    others = [
        question(replace(TARGET, path_and_query="//a"), fields),
        question(replace(TARGET, host="b.test"), fields),
        question(replace(TARGET, scheme="https", port=443), fields),
        question(TARGET, Fields((("A", "1"),))),
        question(TARGET, Fields((("A", "1"), ("B", "3")))),
        question(TARGET, Fields((("A", "1B2"),))),
    ]
    assert len({question(TARGET, fields), *others}) == 7
