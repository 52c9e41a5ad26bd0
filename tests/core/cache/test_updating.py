"""What later answers change of a stored representation, and when it may not be kept any longer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cacheserver.core.cache.representation import Representation
from cacheserver.core.cache.updating import Update, speaks_anew, updated
from cacheserver.core.http.fields import Fields
from tests.support.filling import OWN
from tests.support.stored import NOW_S, representation

Line = tuple[str, str]
KNOWN = representation(fields=(("Cache-Control", "max-age=60"), ("Vary", "Accept"), ("X-Old", "1")))
KNOWN = replace(KNOWN, vary=("accept",))


def after(*lines: Line, known: Representation = KNOWN) -> tuple[Representation, bool]:
    update = Update(Fields(lines), NOW_S + 10, NOW_S + 11, secure=False)
    return updated(known, update, request=Fields(), service=OWN)


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([], True),
        ([("Cache-Control", "max-age=5")], True),
        ([("Cache-Control", "no-cache")], True),
        ([("Cache-Control", "no-store")], False),
        ([("Cache-Control", "private")], False),
        ([("Cache-Control", 'private="x-new"')], True),
        ([("Vary", "Accept")], True),
        ([("Vary", "accept")], True),
        ([("Vary", "*")], False),
        ([("Vary", "Accept, Origin")], False),
        ([("Vary", "Origin")], False),
        ([("Expires", "0")], True),
    ],
)
def test_what_an_answer_forbids_to_keep_is_used_no_more_without_asking(lines: list[Line], kept: bool) -> None:
    representation, stays = after(*lines)
    assert (stays, representation.invalidated) == (kept, not kept)


def test_fields_and_times_are_those_of_the_answer() -> None:
    known, _kept = after(("Cache-Control", "max-age=5"), ("X-New", "2"), ("Age", "3"))
    assert [known.fields.value(name) for name in ("Cache-Control", "X-New", "X-Old")] == ["max-age=5", "2", "1"]
    assert (known.request_time_s, known.response_time_s) == (NOW_S + 7, NOW_S + 11)
    assert known.fields.value("Date") is not None


def test_a_field_that_is_meant_for_one_client_is_not_taken_up() -> None:
    known, _kept = after(("Cache-Control", 'private="x-new"'), ("X-New", "2"))
    assert "X-New" not in known.fields


@pytest.mark.parametrize("name", ["Content-MD5", "Content-Digest", "Content-Encoding", "Set-Cookie"])
def test_what_speaks_of_the_answers_own_body_is_not_taken_up(name: str) -> None:
    known, _kept = after((name, "x"))
    assert name not in known.fields


@pytest.mark.parametrize(
    ("lines", "anew"),
    [
        ([], False),
        ([("Cache-Control", "max-age=60"), ("X-Ray", "7")], False),
        ([("Cache-Control", "no-store")], True),
        ([("Expires", "0")], True),
        ([("Vary", "Origin")], True),
    ],
)
def test_a_later_part_counts_where_it_says_something_else_of_caching(lines: list[Line], anew: bool) -> None:
    assert speaks_anew(KNOWN, Fields(lines)) is anew
