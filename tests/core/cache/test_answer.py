"""The origin's answer: what is accepted, and which error names what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.cache.answer import AcceptedAnswer, Asked, check_answer, contradicts_part, range_refusal
from cacheserver.core.cache.generation import ExpectedGeneration
from cacheserver.core.errors import BadAnswer, BadContentRange, GenerationChanged, OriginStatus
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
        (WHOLE, 200, [length(3), ("Content-Encoding", "aws-chunked, none")], AcceptedAnswer(0, 3, 3, NONE)),
        (WHOLE, 200, [length(30), content_range("bytes 0-29/30")], AcceptedAnswer(0, 30, 30, NONE)),
        (WHOLE, 206, [content_range("bytes 0-29/30")], AcceptedAnswer(0, None, None, NONE)),
        (WHOLE, 206, [length(30), content_range("bytes 0-29/30")], AcceptedAnswer(0, 30, 30, NONE)),
        (SPAN, 206, [content_range("bytes 10-13/30"), length(4)], AcceptedAnswer(10, 14, 30, NONE)),
        (SPAN, 206, [content_range("bytes 10-24/30")], AcceptedAnswer(10, 25, 30, NONE)),
        (Asked(10, None), 206, [content_range("bytes 10-28/30")], AcceptedAnswer(10, 29, 30, NONE)),
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
        (SPAN, 304, []),
        (WHOLE, 304, []),
        (SPAN, 206, [GOOD, GOOD]),
        (SPAN, 206, [content_range("bytes 10-19/*")]),
        (SPAN, 206, [content_range("bytes */30")]),
        (SPAN, 206, [content_range("10-19/30")]),
        (SPAN, 206, [content_range("bytes 19-10/30")]),
        (SPAN, 206, [content_range("bytes 10-30/30")]),
        (SPAN, 206, [content_range("bytes 9-19/30")]),
        (SPAN, 206, [content_range("bytes 0-9/30")]),
        (SPAN, 206, [GOOD, length(9)]),
        (Asked(0, 1000), 206, [content_range("bytes 0-9/1000")]),
        (SPAN, 206, [content_range("items 10-19/30")]),
        (SPAN, 206, [content_range("bytes 10-19/15")]),
        (SPAN, 200, [content_range("bytes 10-19/30"), length(10)]),
        (SPAN, 200, [content_range("bytes 10-19/30"), length(30)]),
        (SPAN, 200, [content_range("bytes */30"), length(30)]),
        (SPAN, 200, [length(30), ("Content-Type", "multipart/byteranges; boundary=b")]),
        (SPAN, 200, [length(10)]),
        (WHOLE, 200, [content_range("bytes 0-9/30"), length(10)]),
        (WHOLE, 200, [content_range("bytes 0-29/30"), length(10)]),
        (WHOLE, 200, [content_range("bytes 0-29/30"), content_range("bytes 0-29/30"), length(30)]),
        (WHOLE, 200, [length(30), ("Content-Type", "multipart/byteranges; boundary=b")]),
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


@pytest.mark.parametrize("status", [201, 203, 204, 301, 401, 404, 416, 429, 500, 503])
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


def test_messages_stay_on_one_line_whatever_the_origin_sends() -> None:
    for line in (content_range("bytes\r\n\x1b[2J" + "x" * 500), length("1\n2"), ("Transfer-Encoding", "a\nb\u20ac")):
        with pytest.raises(BadAnswer) as caught:
            check(SPAN, 206, line)
        message = str(caught.value)
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 500


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_partial_answer_is_accepted_exactly_when_it_begins_where_it_was_asked_to(
    start: int, size: int, got_start: int, got_size: int, total: int
) -> None:
    if got_start + got_size > total:
        return
    line = content_range(format_content_range(got_start, got_start + got_size, total))
    if got_start == start:
        assert check(Asked(start, start + size), 206, line).stop == got_start + got_size
    else:
        with pytest.raises(BadContentRange):
            check(Asked(start, start + size), 206, line)


KNOWN = ExpectedGeneration(30, Validators('"a"'))


def test_a_total_that_is_known_need_not_be_told() -> None:
    line = content_range("bytes 10-19/*")
    assert check(SPAN, 206, line, etag('"a"'), expected=KNOWN) == AcceptedAnswer(10, 20, 30, Validators('"a"'))
    with pytest.raises(BadContentRange):
        check(SPAN, 206, content_range("bytes 10-39/*"), etag('"a"'), expected=KNOWN)


@pytest.mark.parametrize(
    ("status", "lines", "total", "refused"),
    [
        (400, [], None, True),
        (403, [], None, True),
        (405, [], None, True),
        (500, [], None, True),
        (501, [], None, True),
        (401, [], None, False),
        (404, [], None, False),
        (429, [], None, False),
        (503, [], None, False),
        (304, [], None, False),
        (416, [], None, True),
        (416, [content_range("bytes */0")], None, True),
        (416, [content_range("bytes */30")], None, True),
        (416, [content_range("bytes */10")], None, False),
        (416, [content_range("bytes */10")], 30, True),
        (206, [content_range("bytes 10-19/30")], None, False),
        (206, [content_range("bytes 10-19/*")], None, True),
        (200, [length(30)], None, False),
        (200, [length(10)], None, True),
        (200, [length(10)], 10, False),
        (200, [CHUNKED], None, False),
    ],
)
def test_a_range_that_the_source_makes_nothing_of_is_told_from_a_refusal_of_the_content(
    status: int, lines: list[Line], total: int | None, refused: bool
) -> None:
    assert (range_refusal(SPAN, status, Fields(lines), total=total) is not None) is refused
    assert range_refusal(WHOLE, status, Fields(lines), total=total) is None


@pytest.mark.parametrize(
    ("whole", "part", "contradicts"),
    [
        ([length(30)], [GOOD, length(9)], False),
        ([length(39)], [GOOD, length(9)], True),
        ([CHUNKED], [GOOD], False),
        ([length(39)], [], False),
        ([length(39)], [content_range("bytes 10-19/*")], False),
        ([length(39)], [content_range("bytes 10-19/15")], False),
    ],
)
def test_a_source_that_names_two_lengths_is_not_believed(
    whole: list[Line], part: list[Line], contradicts: bool
) -> None:
    assert contradicts_part(200, Fields(whole), Fields(part)) is contradicts
