"""What a line gives and what follows: how many requests it feeds, how many fill it, how long one may be."""

from __future__ import annotations

import heapq
import random
from itertools import count

import pytest

from cacheserver.core.turns.feed import NEED_BPS, WINDOW_S
from cacheserver.core.turns.line import FEED_BPS, START, Line
from cacheserver.core.turns.origin import Limits
from cacheserver.core.turns.queue import Turns
from cacheserver.core.turns.shares import Priority, State, Turn

PIECE = 1 << 20


def after(rate_bps: float, *, bodies: int = 1, seconds: float = 5.0, line: Line | None = None) -> Line:
    """A line that has given ``rate_bps`` to so many requests for a while."""
    return shared([rate_bps / bodies] * bodies, seconds=seconds, line=line)


def shared(rates_bps: list[float], *, seconds: float = 5.0, line: Line | None = None) -> Line:
    """A line on which each request has got its rate for a while, and no further one was sent."""
    line = line or Line(piece_bytes=PIECE)
    for body in range(len(rates_bps)):
        line.begin(("body", body), 0.0)
    for step in range(int(seconds / 0.01)):
        for body, rate_bps in enumerate(rates_bps):
            line.took(("body", body), int(rate_bps * 0.01), (step + 1) * 0.01)
    return line


def test_a_line_that_was_not_measured_takes_a_few_requests_of_the_longest_span() -> None:
    line = Line(piece_bytes=PIECE)
    assert (line.room, line.rate_bps, line.full(4), line.span_pieces(4)) == (START, None, 1, 4)


def test_a_fast_line_is_known_after_a_fiftieth_of_a_second() -> None:
    line = after(12.5e6, seconds=0.03)
    assert line.full(4) == 6
    assert line.span_pieces(4) == 4
    assert line.room > 64


@pytest.mark.parametrize(("bodies", "full"), [(1, 6), (6, 36)])
def test_what_is_asked_for_ahead_grows_with_what_all_requests_get_together(bodies: int, full: int) -> None:
    assert after(12.5e6 * bodies, bodies=bodies).full(4) == pytest.approx(full, abs=1)


def test_a_thin_line_is_asked_for_one_piece_at_a_time() -> None:
    line = after(118e3)
    assert (line.full(4), line.span_pieces(4)) == (1, 1)


def test_a_thin_line_takes_no_more_requests_than_it_feeds() -> None:
    assert after(118e3, bodies=40).room <= int(118e3 / FEED_BPS)
    assert after(30e3, bodies=20).room == START, "a few are always tried"


def test_more_requests_are_sent_where_all_that_are_sent_are_fed() -> None:
    assert START < after(118e3, bodies=START).room <= START + 4
    assert after(118e3, bodies=START - 1).room == START, "it is not used up"
    assert shared([15e3] * 15 + [7e3]).room > START, "one of sixteen may get too little"
    assert shared([15e3] * 7 + [7e3]).room == START
    assert shared([15e3] * 6 + [1e3] * 2).room > START, "they are slow by themselves"


def test_few_requests_that_get_little_say_nothing_against_more() -> None:
    line = after(12.5e6)
    wide = line.room
    assert after(20e3, bodies=1, line=line).room == wide


def test_time_without_a_body_does_not_count() -> None:
    line = Line(piece_bytes=PIECE)
    for start_s in range(0, 600, 60):
        line.begin("body", start_s)
        line.took("body", 200_000, start_s + 0.05)
        line.end("body", start_s + 0.05)
    assert line.rate_bps == pytest.approx(4e6)


class Shares:
    """How requests share a line: each has a weight for three seconds, then another one."""

    def __init__(self, spread: float) -> None:
        self._spread = spread
        self._random = random.Random(1)
        self._weights: dict[Turn, tuple[float, float]] = {}

    def of(self, turns: list[Turn], now_s: float) -> list[tuple[Turn, float]]:
        """The part of the line that each gets."""
        for turn in turns:
            if now_s - self._weights.get(turn, (-3.0, 0.0))[0] >= 3.0:
                self._weights[turn] = now_s, self._random.lognormvariate(0, self._spread)
        whole = sum(self._weights[turn][1] for turn in turns)
        return [(turn, self._weights[turn][1] / whole) for turn in turns]


class Simulation:
    """Clients that each want files one after the other, over a line that its requests share."""

    def __init__(
        self,
        *,
        line_bps: float,
        clients: dict[str, tuple[int, int]],
        latency_s: float = 0.05,
        spread: float = 0.0,
    ) -> None:
        """``clients``: by name how many files at once, and the bytes of a file. ``spread``: of shares, for 3 s each."""
        self._shares = Shares(spread)
        self.turns = Turns(Limits(per_origin=64, total=256, piece_bytes=PIECE))
        self.line_bps = line_bps
        self.sizes = {name: size for name, (_, size) in clients.items()}
        self.got: dict[str, int] = dict.fromkeys(clients, 0)
        self.steps: dict[str, list[int]] = {}
        """By client what it got in each step since it was served first."""
        self.files: dict[str, int] = {}
        self.first_s: dict[str, float] = {}
        self.longest_wait_s = 0.0
        self._bodies: dict[Turn, str] = {}
        self._heads: list[tuple[float, int, Turn]] = []
        self._asked: dict[Turn, str] = {}
        self._left: dict[str, int] = {}
        self._latency_s = latency_s
        self._names = count()
        for name, (at_once, _) in clients.items():
            for _ in range(at_once):
                self._begin(name, 0.0)

    def _begin(self, client: str, now_s: float) -> None:
        name = f"{client} {next(self._names)}"
        self.files[name] = 0
        self._left[name] = self.sizes[client]
        self._ask(client, name, now_s)

    def _ask(self, client: str, name: str, now_s: float) -> None:
        span = self.turns.origin("o").line.span_pieces(4) * PIECE
        turn = Turn("o", name, at=self.files[name], cost_bytes=min(span, self._left[name]))
        self._asked[turn] = client
        self.turns.ask(turn, client, Priority.DEMANDED, now_s)

    def run(self, seconds: float, step_s: float = 0.05) -> None:
        """Let time pass."""
        for tick in range(int(seconds / step_s)):
            now_s = tick * step_s
            for turn in self.turns.granted:
                self.longest_wait_s = max(self.longest_wait_s, now_s - turn.asked_s)
                heapq.heappush(self._heads, (now_s + self._latency_s, id(turn), turn))
            self.turns.granted = []
            while self._heads and self._heads[0][0] <= now_s:
                turn = heapq.heappop(self._heads)[2]
                self.turns.answered(turn, now_s)
                self._bodies[turn] = self._asked[turn]
            for turn, share in self._shares.of(list(self._bodies), now_s):
                self._give(turn, self._bodies[turn], int(self.line_bps * step_s * share), now_s + step_s)

    def _give(self, turn: Turn, client: str, share: int, now_s: float) -> None:
        name = turn.object_id
        share = min(share, turn.cost_bytes - turn.taken_bytes)
        self.got[client] += share
        self.steps.setdefault(client, []).append(share)
        self.files[name] += share
        self._left[name] -= share
        self.first_s.setdefault(name, now_s)
        self.turns.took(turn, share, now_s)
        if turn.taken_bytes == turn.cost_bytes:
            del self._bodies[turn]
            self.turns.end(turn, now_s)
            if self._left[name]:
                self._ask(client, name, now_s)
            else:
                self._begin(client, now_s)


def test_forty_clients_on_a_line_that_feeds_them_are_all_fed() -> None:
    line = Simulation(line_bps=1.2e6, clients={f"c{n}": (1, 12_000_000) for n in range(40)})
    line.run(60)
    assert len(line.first_s) == 40
    assert max(line.first_s.values()) < 5
    assert sum(line.got.values()) > 0.95 * 1.2e6 * 60


def test_of_more_clients_than_a_line_feeds_those_that_it_can_are_fed_above_their_limit() -> None:
    line = Simulation(line_bps=118e3, clients={f"c{n}": (1, 12_000_000) for n in range(40)})
    line.run(60)
    served = [name for name in line.got if line.got[name]]
    assert START < len(served) < 118e3 / 4000
    assert all(line.got[name] > 4000 * 50 for name in served), "nobody is begun and then starved"
    assert sum(line.got.values()) > 0.95 * 118e3 * 60


@pytest.mark.parametrize(("spread", "least"), [(0.0, 17), (0.5, 12), (0.8, 9)])
def test_the_more_unequal_the_shares_the_fewer_requests_share_the_line(spread: float, least: int) -> None:
    line = Simulation(line_bps=150e3, clients={f"c{n}": (1, 12_000_000) for n in range(60)}, spread=spread)
    line.run(75)
    window = int(WINDOW_S / 0.05)
    starved = [
        client
        for client, steps in line.steps.items()
        if any(sum(steps[at : at + window]) < NEED_BPS * WINDOW_S for at in range(len(steps) - window))
    ]
    assert len(line.steps) >= least
    assert not starved


def test_a_client_with_many_files_leaves_the_others_theirs() -> None:
    line = Simulation(line_bps=2.5e6, clients={"greedy": (200, 1 << 20), "a": (1, 1 << 20), "b": (1, 1 << 20)})
    line.run(60)
    waits = [line.turns.origins["o"].flows[name] for name in ("a", "b")]
    assert all(flow.used for flow in waits), "each has its request under way"
    assert min(line.got["a"], line.got["b"]) > 2.5e6 * 60 / 40


def test_small_files_are_not_kept_waiting_by_large_ones() -> None:
    line = Simulation(line_bps=1.2e6, clients={"large": (30, 100_000_000), "small": (1, 50_000)})
    line.run(60)
    assert line.longest_wait_s < 30
    assert sum(name.startswith("small") for name in line.first_s) > 30


def test_nobody_is_left_out_when_slots_are_few() -> None:
    line = Simulation(line_bps=12.5e6, clients={f"c{n}": (3, 4 << 20) for n in range(60)})
    line.run(120)
    assert all(line.got.values())
    assert all(turn.state is not State.WAITING or turn.asked_s > 60 for turn in line._asked)
