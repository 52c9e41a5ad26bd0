"""When a source is not asked: Retry-After by URL and by source, probes, and sources that are silent."""

from __future__ import annotations

import pytest

from cacheserver.core.cache.back_off import BackOff, Hold, retry_after_s

A = "http://a.example:80"
B = "http://b.example:80"


class Memory:
    """A ``BackOff`` with a clock."""

    def __init__(self, most_s: float = 60.0) -> None:
        self.back_off = BackOff(most_s=most_s)
        self.now_s = 1000.0

    def answer(
        self, path: str, status: int, retry_s: float | None = None, *, source: str = A, ago_s: float = 0
    ) -> None:
        self.back_off.answered(
            source,
            source + path,
            status=status,
            retry_s=retry_s,
            asked_s=self.now_s - ago_s,
            now_s=self.now_s,
        )

    def hold(self, path: str, *, source: str = A) -> Hold | None:
        return self.back_off.hold(source, source + path, self.now_s)

    def is_silent(self, source: str = A) -> bool:
        return self.back_off.is_silent(source, self.now_s)

    def time_out(self, path: str, *, source: str = A) -> None:
        self.back_off.timed_out(source, source + path, self.now_s)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("30", 30.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("9" * 400, 999_999_999_999.0),
        ("Thu, 01 Jan 1970 00:17:40 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value, 1000.0) == expected


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_retry_after_holds_for_its_url_alone(status: int) -> None:
    memory = Memory()
    memory.answer("/x", status, 30)
    memory.now_s += 29
    assert memory.hold("/x") == Hold(status, 1.0)
    assert memory.hold("/y") is None
    assert memory.hold("/x", source=B) is None


@pytest.mark.parametrize(("status", "retry_s"), [(503, None), (429, None), (403, 30), (404, 30), (200, 30), (503, 0)])
def test_other_answers_hold_nothing(status: int, retry_s: float | None) -> None:
    memory = Memory()
    memory.answer("/x", status, retry_s)
    assert memory.hold("/x") is None


def test_a_hold_is_bounded_and_the_bound_of_zero_is_no_hold() -> None:
    memory = Memory()
    memory.answer("/x", 503, 86_400)
    assert memory.hold("/x") == Hold(503, 60.0)
    memory = Memory(most_s=0)
    memory.answer("/x", 429, 86_400)
    assert memory.hold("/x") is None


def test_after_a_hold_one_request_probes_and_the_others_wait_for_it() -> None:
    memory = Memory()
    memory.answer("/x", 503, 30)
    memory.now_s += 30
    assert memory.hold("/x") is None
    assert memory.hold("/x") == Hold(503, 1.0)
    memory.answer("/x", 200)
    assert memory.hold("/x") is None


def test_a_probe_without_an_answer_is_followed_by_another() -> None:
    memory = Memory()
    memory.answer("/x", 503, 30)
    memory.now_s += 30
    assert memory.hold("/x") is None
    memory.now_s += 15
    assert memory.hold("/x") is None
    assert memory.hold("/x") is not None


def test_a_429_holds_for_its_source_which_is_probed_with_other_urls() -> None:
    memory = Memory()
    memory.answer("/x", 429, 30)
    assert memory.hold("/y") == Hold(429, 30.0)
    assert memory.hold("/y", source=B) is None
    memory.now_s += 5
    assert memory.hold("/x") is not None
    assert memory.hold("/y") is None
    assert memory.hold("/z") is not None


def test_another_url_that_is_well_ends_the_hold_of_the_source_and_the_429_speaks_for_itself_from_then_on() -> None:
    memory = Memory()
    memory.answer("/x", 429, 30)
    memory.now_s += 5
    memory.answer("/y", 206)
    assert memory.hold("/z") is None
    assert memory.hold("/x") is not None
    memory.answer("/x", 429, 30)
    assert memory.hold("/z") is None


def test_an_answer_to_a_request_from_before_the_hold_does_not_end_it() -> None:
    memory = Memory()
    memory.answer("/x", 429, 30)
    memory.now_s += 1
    memory.answer("/y", 200, ago_s=2)
    assert memory.hold("/z") is not None


def test_several_urls_within_a_minute_hold_for_their_source() -> None:
    memory = Memory()
    for path in ("/a", "/b", "/a"):
        memory.answer(path, 503, 30)
        assert memory.hold("/z") is None
    memory.answer("/c", 503, 30)
    assert memory.hold("/z") == Hold(503, 30.0)


@pytest.mark.parametrize("between", ["a good answer", "a minute"])
def test_urls_do_not_speak_for_their_source_with_something_between_them(between: str) -> None:
    memory = Memory()
    for path in ("/a", "/b"):
        memory.answer(path, 503, 30)
    if between == "a minute":
        memory.now_s += 60
    else:
        memory.answer("/y", 200)
    memory.answer("/c", 503, 30)
    assert memory.hold("/z") is None


def test_a_source_is_silent_after_several_urls_timed_out_and_one_request_at_a_time_waits_for_it() -> None:
    memory = Memory()
    for path in ("/a", "/b", "/a"):
        memory.time_out(path)
        assert not memory.is_silent()
    memory.time_out("/c")
    assert [memory.is_silent() for _ in range(3)] == [False, True, True]
    assert not memory.is_silent(B)
    memory.now_s += 15
    assert [memory.is_silent() for _ in range(2)] == [False, True]


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_answer_ends_the_silence(status: int) -> None:
    memory = Memory()
    for path in ("/a", "/b", "/c"):
        memory.time_out(path)
    memory.answer("/a", status)
    assert [memory.is_silent() for _ in range(2)] == [False, False]
