"""The table of an object's life: every pair is in it or refused; no state is a trap."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from cacheserver.core.object_life import LIFE, Event, IllegalTransition, Life, after

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.mark.parametrize(("now", "event"), list(itertools.product(Life, Event)))
def test_every_pair_is_in_the_table_or_refused(now: Life, event: Event) -> None:
    if (now, event) in LIFE:
        assert after(now, event) is LIFE[now, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{event.name} .*{now.name}"):
            after(now, event)


def reachable(start: Life) -> set[Life]:
    found, todo = {start}, [start]
    while todo:
        now = todo.pop()
        for (before, _event), then in LIFE.items():
            if before is now and then not in found:
                found.add(then)
                todo.append(then)
    return found


def test_every_state_is_reached_from_absence_and_leads_to_the_end() -> None:
    assert reachable(Life.ABSENT) == set(Life)
    for state in set(Life) - {Life.GONE}:
        assert Life.GONE in reachable(state)


def test_a_retired_object_never_comes_back() -> None:
    assert reachable(Life.RETIRING) == {Life.RETIRING, Life.GONE}
    assert reachable(Life.GONE) == {Life.GONE}


def test_a_generation_is_created_once() -> None:
    assert [now for now, event in LIFE if event is Event.CREATE] == [Life.ABSENT]


def test_the_table_is_the_one_of_the_architecture_page() -> None:
    _, _, page = PAGE.read_text().partition("## Life of an object")
    rows = re.findall(r"^\| ([A-Z]+) \| (.*) \| (.*) \|$", page.partition("\n## ")[0], re.MULTILINE)
    assert [(state, meaning) for state, meaning, _ in rows] == [(state.name, state.value) for state in Life]
    told = {
        (Life[state], Event[event]): Life[then]
        for state, _, events in rows
        for event, then in re.findall(r"([A-Z_]+) → ([A-Z]+)", events)
    }
    assert told == LIFE
