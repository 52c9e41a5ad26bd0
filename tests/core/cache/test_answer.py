"""The origin's answer: what is accepted, and which error names what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.cache.answer import (
    AcceptedAnswer,
    Asked,
    ExpectedGeneration,
    check_answer,
    combinable,
    resume_condition,
    validators_of,
)
from cacheserver.core.errors import BadAnswer, GenerationChanged, OriginStatus
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.ranges import format_content_range
from cacheserver.core.http.validators import Validators

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
SAME_DATE = "Sunday, 06-Nov-94 08:49:37 GMT"
LATER = "Mon, 07 Nov 1994 08:49:37 GMT"
NONE = Validators()
WHOLE = Asked(0, None, whole=True)
SPAN = Asked(10, 20)
Line = tuple[str, str]


def check(
    asked: Asked,
    status: int,
    *lines: Line,
    expected: ExpectedGeneration | None = None,
    codings: frozenset[str] = frozenset(),
    immutable: bool = False,
) -> AcceptedAnswer:
    return check_answer(
        asked=asked,
        status=status,
        fields=Fields(lines),
        expected=expected,
        accepted_codings=codings,
        immutable=immutable,
    )


def length(value: object) -> Line:
    return ("Content-Length", str(value))


def content_range(value: str) -> Line:
    return ("Content-Range", value)


CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize(
    ("asked", "status", "lines", "expected"),
    [
        (WHOLE, 200, [length(30)], AcceptedAnswer(0, 30, 30, NONE)),
        (WHOLE, 200, [length(0)], AcceptedAnswer(0, 0, 0, NONE)),
        (WHOLE, 200, [CHUNKED], AcceptedAnswer(0, None, None, NONE)),
        (WHOLE, 200, [("transfer-encoding", " Chunked")], AcceptedAnswer(0, None, None, NONE)),
        (WHOLE, 200, [], AcceptedAnswer(0, None, None, NONE)),
        (SPAN, 200, [length(30)], AcceptedAnswer(0, 30, 30, NONE)),
        (SPAN, 206, [content_range("bytes 10-19/30"), length(10)], AcceptedAnswer(10, 20, 30, NONE)),
        (SPAN, 206, [content_range("bytes 10-19/30")], AcceptedAnswer(10, 20, 30, NONE)),
        (SPAN, 206, [content_range("bytes 10-19/30"), CHUNKED], AcceptedAnswer(10, 20, 30, NONE)),
        (SPAN, 206, [content_range("bytes 10-14/15"), length(5)], AcceptedAnswer(10, 15, 15, NONE)),
        (Asked(10, None), 206, [content_range("bytes 10-29/30")], AcceptedAnswer(10, 30, 30, NONE)),
        (WHOLE, 200, [length(3), ("Content-Encoding", "Identity")], AcceptedAnswer(0, 3, 3, NONE)),
    ],
)
def test_exact_answers_are_accepted(asked: Asked, status: int, lines: list[Line], expected: AcceptedAnswer) -> None:
    assert check(asked, status, *lines) == expected


GOOD = content_range("bytes 10-19/30")


@pytest.mark.parametrize(
    ("asked", "status", "lines"),
    [
        (WHOLE, 206, [GOOD]),
        (SPAN, 206, []),
        (SPAN, 206, [GOOD, GOOD]),
        (SPAN, 206, [content_range("bytes 10-19/*")]),
        (SPAN, 206, [content_range("bytes */30")]),
        (SPAN, 206, [content_range("10-19/30")]),
        (SPAN, 206, [content_range("bytes 19-10/30")]),
        (SPAN, 206, [content_range("bytes 10-30/30")]),
        (SPAN, 206, [content_range("bytes 10-18/30")]),
        (SPAN, 206, [content_range("bytes 10-20/30")]),
        (SPAN, 206, [content_range("bytes 9-19/30")]),
        (SPAN, 206, [content_range("bytes 0-9/30")]),
        (SPAN, 206, [content_range("bytes 10-13/30"), length(4)]),
        (Asked(10, None), 206, [content_range("bytes 10-28/30")]),
        (SPAN, 206, [GOOD, length(9)]),
        (SPAN, 206, [GOOD, length(30)]),
        (SPAN, 206, [GOOD, ("Content-Type", "Multipart/ByteRanges; boundary=b")]),
        (SPAN, 206, [GOOD, ("Content-Encoding", "gzip")]),
        (WHOLE, 200, [length(30), length(30)]),
        (WHOLE, 200, [length(30), length(31)]),
        (WHOLE, 200, [length("30, 30")]),
        (WHOLE, 200, [length("")]),
        (WHOLE, 200, [length("+30")]),
        (WHOLE, 200, [length("-1")]),
        (WHOLE, 200, [length("0x1e")]),
        (WHOLE, 200, [length("3_0")]),
        (WHOLE, 200, [length("\u0663")]),
        (WHOLE, 200, [length("9" * 19)]),
        (WHOLE, 200, [length(30), CHUNKED]),
        (WHOLE, 200, [("Transfer-Encoding", "gzip, chunked")]),
        (WHOLE, 200, [("Transfer-Encoding", "identity")]),
        (WHOLE, 200, [CHUNKED, CHUNKED]),
        (WHOLE, 200, [length(30), ("Content-Encoding", "gzip")]),
        (WHOLE, 200, [length(30), ("Content-Encoding", "identity, br")]),
    ],
)
def test_answers_that_contradict_the_request_or_themselves_are_refused(
    asked: Asked, status: int, lines: list[Line]
) -> None:
    with pytest.raises(BadAnswer):
        check(asked, status, *lines)


@pytest.mark.parametrize("status", [201, 203, 204, 301, 304, 401, 404, 416, 429, 500, 503])
def test_other_statuses_are_named(status: int) -> None:
    with pytest.raises(OriginStatus) as caught:
        check(SPAN, status, GOOD)
    assert caught.value.status == status


def test_accepted_codings_pass_when_all_of_them_are_accepted() -> None:
    coded = [length(3), ("Content-Encoding", "GZIP")]
    assert check(WHOLE, 200, *coded, codings=frozenset({"gzip"})).total == 3
    with pytest.raises(BadAnswer):
        check(WHOLE, 200, length(3), ("Content-Encoding", "gzip, br"), codings=frozenset({"gzip"}))


def etag(value: str) -> Line:
    return ("ETag", value)


def modified(value: str) -> Line:
    return ("Last-Modified", value)


@pytest.mark.parametrize(
    ("known", "lines", "own_agrees", "immutable_agrees"),
    [
        (Validators('"a"'), [etag('"a"')], True, True),
        (Validators('"a"'), [etag('"b"')], False, False),
        (Validators('"a"', MODIFIED), [etag('"a"'), modified(LATER)], True, True),
        (Validators('"a"', MODIFIED), [etag('"b"'), modified(MODIFIED)], False, False),
        (Validators('"a"', MODIFIED), [modified(MODIFIED)], True, True),
        (Validators('"a"', MODIFIED), [modified(SAME_DATE)], True, True),
        (Validators('"a"', MODIFIED), [modified(LATER)], False, False),
        (Validators('"a"', MODIFIED), [], False, True),
        (Validators('"a"'), [modified(MODIFIED)], False, True),
        (Validators('"a"'), [etag('W/"a"')], False, True),
        (Validators('W/"a"'), [etag('W/"a"')], True, True),
        (Validators('W/"a"'), [etag('W/"b"')], False, False),
        (Validators('W/"a"', MODIFIED), [etag('W/"b"'), modified(MODIFIED)], True, True),
        (Validators('W/"a"', MODIFIED), [etag('W/"b"')], False, False),
        (NONE, [], True, True),
        (NONE, [etag('"a"')], False, True),
    ],
)
def test_validators_tell_generations_apart(
    known: Validators, lines: list[Line], own_agrees: bool, immutable_agrees: bool
) -> None:
    for immutable, agrees in ((False, own_agrees), (True, immutable_agrees)):
        expected = ExpectedGeneration(30, known)
        if agrees:
            assert check(SPAN, 206, GOOD, *lines, expected=expected, immutable=immutable).total == 30
        else:
            with pytest.raises(GenerationChanged):
                check(SPAN, 206, GOOD, *lines, expected=expected, immutable=immutable)


@pytest.mark.parametrize("immutable", [False, True])
@pytest.mark.parametrize(("status", "line"), [(200, length(31)), (206, content_range("bytes 10-19/31"))])
def test_another_length_is_another_generation_whatever_the_validator_says(
    status: int, line: Line, immutable: bool
) -> None:
    with pytest.raises(GenerationChanged):
        check(
            SPAN,
            status,
            line,
            etag('"a"'),
            expected=ExpectedGeneration(30, Validators('"a"')),
            immutable=immutable,
        )


def test_unknown_length_is_left_to_the_reader_of_the_body() -> None:
    answer = check(WHOLE, 200, CHUNKED, etag('"a"'), expected=ExpectedGeneration(30, Validators('"a"')))
    assert answer == AcceptedAnswer(0, None, None, Validators('"a"'))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([etag('"a"'), modified(MODIFIED)], Validators('"a"', MODIFIED)),
        ([etag(' W/"a" ')], Validators('W/"a"')),
        ([etag("unquoted")], NONE),
        ([etag('"a"'), etag('"b"')], NONE),
        ([modified(MODIFIED), modified(LATER)], NONE),
        ([modified("a\r\nb")], NONE),
        ([modified("")], NONE),
    ],
)
def test_malformed_or_repeated_validators_are_none(lines: list[Line], expected: Validators) -> None:
    assert validators_of(Fields(lines)) == expected


MINUTE_AFTER = "Sun, 06 Nov 1994 08:50:37 GMT"
LESS_THAN_A_MINUTE_AFTER = "Sun, 06 Nov 1994 08:50:36 GMT"


@pytest.mark.parametrize(
    ("validators", "date", "condition"),
    [
        (Validators('"a"', MODIFIED), None, '"a"'),
        (Validators('"a"', MODIFIED), MINUTE_AFTER, '"a"'),
        (Validators('W/"a"'), MINUTE_AFTER, None),
        (Validators('W/"a"', MODIFIED), MINUTE_AFTER, MODIFIED),
        (Validators("unquoted"), None, None),
        (Validators(None, MODIFIED), MINUTE_AFTER, MODIFIED),
        (Validators(None, MODIFIED), LESS_THAN_A_MINUTE_AFTER, None),
        (Validators(None, MODIFIED), None, None),
        (Validators(None, "garbage"), MINUTE_AFTER, None),
        (NONE, MINUTE_AFTER, None),
    ],
)
def test_only_strong_validators_join_parts(validators: Validators, date: str | None, condition: str | None) -> None:
    assert resume_condition(validators, date) == condition
    assert combinable(validators, date, immutable=False) is (condition is not None)
    assert combinable(validators, date, immutable=True)


def test_messages_stay_on_one_line_whatever_the_origin_sends() -> None:
    for line in (content_range("bytes\r\n\x1b[2J" + "x" * 500), length("1\n2"), ("Content-Encoding", "a\nb\u20ac")):
        with pytest.raises(BadAnswer) as caught:
            check(SPAN, 206, line)
        message = str(caught.value)
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 500


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_partial_answer_is_accepted_exactly_when_it_is_the_span_asked_for(
    start: int, size: int, got_start: int, got_size: int, total: int
) -> None:
    if got_start + got_size > total:
        return
    line = content_range(format_content_range(got_start, got_start + got_size, total))
    exact = got_start == start and got_start + got_size == min(start + size, total)
    if exact:
        assert check(Asked(start, start + size), 206, line).stop == got_start + got_size
    else:
        with pytest.raises(BadAnswer):
            check(Asked(start, start + size), 206, line)
