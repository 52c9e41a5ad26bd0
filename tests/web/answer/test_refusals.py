"""Errors as answers: one table."""

from __future__ import annotations

import inspect

import pytest

from cacheserver.core import errors
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Form
from cacheserver.web.answer.refusals import refusal_for, relays_status

MADE: dict[type[errors.CacheserverError], errors.CacheserverError] = {
    errors.HostNotAllowed: errors.HostNotAllowed("evil.test"),
    errors.MethodNotAllowed: errors.MethodNotAllowed("PUT"),
    errors.OriginStatus: errors.OriginStatus(404),
    errors.PieceMismatch: errors.PieceMismatch(1, expected=b"", got=b""),
    errors.BadPiece: errors.BadPiece(1),
}


def every_error() -> list[errors.CacheserverError]:
    classes = [
        kind for _name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.CacheserverError)
    ]
    return [MADE[kind] if kind in MADE else kind("text") for kind in classes]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_has_a_one_line_answer(error: errors.CacheserverError) -> None:
    refusal = refusal_for(error)
    assert 400 <= refusal.status < 600
    assert refusal.text.endswith("\n")
    assert refusal.text.count("\n") == 1


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_only_faults_of_the_request_are_4xx_of_our_own(error: errors.CacheserverError) -> None:
    if not isinstance(error, errors.RequestError):
        assert refusal_for(error).status >= 500, "I8: a 4xx bans this node for the origin"


@pytest.mark.parametrize(
    ("error", "status", "extra", "close"),
    [
        (errors.MalformedRequest("x"), 400, (), True),
        (errors.HostNotAllowed("evil.test"), 403, (), False),
        (errors.MethodNotAllowed("PUT"), 405, (("Allow", "GET, HEAD"),), True),
        (errors.BodyRefused("x"), 413, (), True),
        (errors.LoopDetected("x"), 508, (), False),
        (errors.Draining("x"), 503, (("Retry-After", "5"),), False),
        (errors.UpstreamTimeout("x"), 504, (), False),
        (errors.ConnectFailed("x"), 502, (), False),
        (errors.OriginStatus(403), 502, (), False),
        (errors.OriginStatus(429, Fields([("Retry-After", "30")])), 502, (("Retry-After", "30"),), False),
        (errors.OriginStatus(429, Fields([("Retry-After", "soon")])), 502, (), False),
        (errors.StoreFull("x"), 503, (("Retry-After", "5"),), False),
        (errors.CacheserverError("x"), 500, (), False),
    ],
)
def test_the_table(
    error: errors.CacheserverError, status: int, extra: tuple[tuple[str, str], ...], close: bool
) -> None:
    refusal = refusal_for(error)
    assert (refusal.status, refusal.extra, refusal.close) == (status, extra, close)


def test_a_refused_host_is_told_how_it_can_be_allowed() -> None:
    assert "--allow evil.test" in refusal_for(errors.HostNotAllowed("evil.test")).text


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("status", [200, 206, 304, 416])
def test_what_is_no_refusal_of_the_file_is_always_relayed(form: Form, status: int) -> None:
    assert relays_status(status, form, cache_host_errors="5xx", host_errors="5xx")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500, 503])
@pytest.mark.parametrize(
    ("form", "cache_host", "host", "relayed"),
    [
        (Form.CACHE_HOST, "5xx", "relay", False),
        (Form.CACHE_HOST, "relay", "5xx", True),
        (Form.HOST, "5xx", "relay", True),
        (Form.HOST, "relay", "5xx", False),
        (Form.ABSOLUTE, "5xx", "relay", True),
    ],
)
def test_a_refusal_of_the_origin_follows_the_setting_of_its_form(
    status: int, form: Form, cache_host: str, host: str, relayed: bool
) -> None:
    assert relays_status(status, form, cache_host_errors=cache_host, host_errors=host) is relayed
