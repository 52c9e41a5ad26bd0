"""Which answers that are no representation are kept, for whom, and how long (RFC 9111 §3, §4.1, §4.2.2)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cacheserver.core.cache.kept_answer import Answered, KeptAnswer, kept_answer
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.keys import object_id
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Form, Target

NOW_S = 1_700_000_000.0
OWN = Service(name="own", hosts=("h",), own=True)
SHIPPED = Service(name="shipped", hosts=("h",), lifetime="immutable")
MODIFIED = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
NONE = ()
Lines = tuple[tuple[str, str], ...]


def kept(status: int, *lines: tuple[str, str], request: Lines = NONE, service: Service = OWN) -> KeptAnswer | None:
    key = "http://h/x"
    target = Target(Form.HOST, service, "http", "h", 80, "/x", key, object_id(key))
    answered = Answered(status, Fields(lines), b"text", "http://h:80", NOW_S - 1, NOW_S)
    return kept_answer(answered, target, Fields(request))


def cc(value: str) -> tuple[str, str]:
    return ("Cache-Control", value)


@pytest.mark.parametrize("status", [203, 204, 299, 301, 302, 303, 307, 308, 400, 403, 404, 410, 499, 500, 503, 599])
def test_every_final_status_is_kept_as_long_as_its_fields_say(status: int) -> None:
    assert kept(status, cc("max-age=60")) is not None
    assert kept(status, ("Expires", "Wed, 01 Jan 2031 00:00:00 GMT")) is not None
    assert kept(status, cc("max-age=0")) is None
    assert kept(status, cc("max-age=60, no-store")) is None
    assert kept(status, cc("max-age=60, private")) is None
    assert kept(status, cc("max-age=60"), ("Vary", "*")) is None
    assert kept(status, cc("max-age=60"), request=(cc("no-store"),)) is None
    assert kept(status, cc("max-age=60"), request=(("Authorization", "Basic x"),)) is None
    assert kept(status, cc("max-age=60"), ("Set-Cookie", "a=b")) is None
    assert kept(status, cc("max-age=60"), service=SHIPPED) is None


@pytest.mark.parametrize("status", [203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_a_lifetime_is_guessed_for_the_statuses_of_rfc_9110_alone(status: int) -> None:
    assert kept(status, MODIFIED) is not None
    assert kept(status) is None
    assert kept(status, service=replace(OWN, heuristic_min_s=60)) is not None
    for other in (302, 400, 403, 500, 503):
        assert kept(other, MODIFIED, service=replace(OWN, heuristic_min_s=60)) is None


@pytest.mark.parametrize("status", [200, 206, 304, 407, 416])
def test_representations_and_answers_to_more_than_the_target_are_not_meant(status: int) -> None:
    assert kept(status, cc("max-age=60")) is None


@pytest.mark.parametrize(("status", "understood"), [(404, True), (302, True), (299, False), (599, False)])
def test_must_understand_is_for_a_status_that_is_understood(status: int, understood: bool) -> None:
    assert (kept(status, cc("max-age=60, must-understand")) is not None) == understood
    assert (kept(status, cc("max-age=60, no-store, must-understand")) is not None) == understood


def test_it_is_for_requests_that_select_it_and_its_age_counts_from_its_own() -> None:
    answer = kept(404, cc("max-age=60"), ("Vary", "Accept"), ("Age", "20"), request=(("Accept", "a"),))
    assert answer is not None
    assert answer.selected_by(Fields([("accept", "a"), ("X", "y")]))
    assert not answer.selected_by(Fields([("Accept", "b")]))
    assert not answer.selected_by(Fields([]))
    assert answer.head.request_time_s == NOW_S - 21
    assert "Age" not in answer.answered.fields


def test_what_is_for_one_client_is_left_out() -> None:
    answer = kept(404, cc('max-age=60, private="X-A"'), ("X-A", "1"), ("X-B", "2"))
    assert answer is not None
    assert [name for name, _value in answer.answered.fields] == ["Cache-Control", "X-B"]
