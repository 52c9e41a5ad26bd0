"""The model of contents that are spoken of: it allows what is right, and knows what is not."""

from __future__ import annotations

import pytest

from cacheserver.core.http.fields import Fields
from tests.faults.statements_truth import SETTLING_S, Flip, Spoken
from tests.support.client import Response
from tests.support.content import blob

PIECE = 1000
RIGHT, LIE, OTHER = blob(1, 3500), blob(2, 3500), blob(3, 3500)


def spoken(*, demanded: bool = True) -> Spoken:
    """Nothing was said of it until 10 s, the right body from then on."""
    content = Spoken("a.test", "/a", RIGHT, LIE, demanded, PIECE)
    content.say(None, 0.0)
    content.say(RIGHT, 9.0)
    content.confirmed(10.0)
    return content


def answer(body: bytes, *, complete: bool = True) -> Response:
    response = Response(200, "", Fields(()), b"", "length", len(body), bytearray(body))
    response.ending = "complete" if complete else "eof"
    return response


def judged(content: Spoken, body: bytes, sent_s: float, *, start: int = 0, complete: bool = True) -> str:
    return content.judge(start, answer(body, complete=complete), sent_s, sent_s + 0.5) or ""


@pytest.mark.parametrize(("sent_s", "is_right"), [(1.0, True), (9.2, True), (10.1, False)])
def test_what_is_not_said_is_wrong_once_the_statement_holds(sent_s: float, is_right: bool) -> None:
    assert judged(spoken(), RIGHT, sent_s) == ""
    assert (judged(spoken(), LIE, sent_s) == "") is is_right


def test_it_may_be_judged_in_the_background_where_nothing_is_demanded() -> None:
    assert judged(spoken(demanded=False), LIE, 10.1) == ""
    assert "COMPLETE WRONG BODY (lie)" in judged(spoken(demanded=False), LIE, 10.1 + SETTLING_S)


def test_nothing_is_right_where_what_is_said_is_with_no_source() -> None:
    content = spoken()
    content.say(OTHER, 20.0)
    content.confirmed(21.0)
    for body in (RIGHT, LIE):
        assert "other +" not in judged(content, body, 22.0)
        assert judged(content, body, 22.0, complete=False) == ""


def test_a_mixture_of_both_sources_is_no_whole_but_may_be_a_part() -> None:
    mixed = LIE[:PIECE] + RIGHT[PIECE:]
    assert "a mixture" in judged(spoken(), mixed, 30.0)
    assert judged(spoken(), mixed[10:], 30.0, start=10) == ""


@pytest.mark.parametrize("complete", [True, False])
def test_bytes_of_no_source_are_found_in_every_answer(complete: bool) -> None:
    zeros = RIGHT[:PIECE] + bytes(PIECE) + RIGHT[2 * PIECE :]
    assert "FOREIGN BYTES in the piece from 1000 on" in judged(spoken(), zeros, 30.0, complete=complete)
    assert "FOREIGN BYTES" in judged(spoken(), zeros[500:1500], 30.0, start=500, complete=complete)


@pytest.mark.parametrize(("sent_s", "is_right"), [(30.0, True), (39.9, True), (41.0, False)])
def test_a_flipped_byte_is_excused_until_it_was_found(sent_s: float, is_right: bool) -> None:
    content = spoken()
    content.flips.append(Flip(1234, since_s=29.0, until_s=40.0))
    spoilt = bytearray(RIGHT)
    spoilt[1234] ^= 0xFF
    assert (judged(content, bytes(spoilt), sent_s) == "") is is_right
    assert judged(content, RIGHT, sent_s) == ""
