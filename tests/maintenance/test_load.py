"""When clients count as busy, and the idle class of the threads that read."""

from __future__ import annotations

import ctypes
import platform
from concurrent.futures import ThreadPoolExecutor

import pytest

from cacheserver.maintenance.pace import Debt, Load, paced_rate_bps
from cacheserver.maintenance.scrubber import be_idle
from tests.support.stored import HandClock


def test_more_fills_than_allowed_are_heavy() -> None:
    fills = 0
    load = Load(fills=lambda: fills, sent_bytes=lambda: 0, clock=HandClock())
    assert not load.is_heavy(most_fills=0, most_bps=0)
    fills = 1
    assert load.is_heavy(most_fills=0, most_bps=0)
    assert not load.is_heavy(most_fills=1, most_bps=0)


def test_a_rate_is_heavy_while_it_lasts_and_for_ten_seconds_after() -> None:
    clock, sent = HandClock(), 0
    load = Load(fills=lambda: 0, sent_bytes=lambda: sent, clock=clock)
    heavy = []
    for second in range(40):
        clock.now_s += 1
        sent += 1000 if second < 15 else 0
        heavy.append(load.is_heavy(most_fills=0, most_bps=500))
    assert heavy[:15] == [True] * 15
    assert heavy[15]
    assert not any(heavy[25:])


def test_one_large_answer_long_ago_is_not_heavy() -> None:
    clock, sent = HandClock(), 0
    load = Load(fills=lambda: 0, sent_bytes=lambda: sent, clock=clock)
    sent = 10_000_000
    clock.now_s += 3600
    assert not load.is_heavy(most_fills=0, most_bps=10_000)


@pytest.mark.parametrize(
    ("stored", "done", "elapsed_s", "rate"),
    [
        (1000, 0, 0, 10),
        (1000, 500, 50, 10),
        (1000, 500, 75, 20),
        (1000, 900, 10, 10),
        (1000, 0, 1000, 400),
        (1000, 5000, 1000, 10),
        (1000, 0, -50, 10),
        (0, 0, 0, 1),
    ],
)
def test_pace_is_even_catches_up_and_has_a_limit(stored: int, done: int, elapsed_s: float, rate: float) -> None:
    got = paced_rate_bps(stored_bytes=stored, done_bytes=done, period_s=100, elapsed_s=elapsed_s, most_bps=400)
    assert got == rate


def test_debts_are_paid_by_time_and_small_ones_wait() -> None:
    clock = HandClock()
    debt = Debt(clock)
    debt.add(1000)
    assert debt.rest_s(100) == 10
    clock.now_s += 4
    assert debt.rest_s(100) == 6
    clock.now_s += 5.99
    assert debt.rest_s(100) == 0
    debt.add(2)
    assert debt.rest_s(100) == pytest.approx(0.03)
    clock.now_s += 1000
    assert debt.rest_s(100) == 0
    debt.add(100)
    assert debt.rest_s(100) == 1
    debt.forgive()
    assert debt.rest_s(100) == 0


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="knows one number only")
def test_threads_of_the_scrubber_are_in_the_idle_class_and_others_are_not() -> None:
    def io_class() -> int:
        got: int = ctypes.CDLL(None).syscall(252, 1, 0)
        return got >> 13

    before = io_class()
    with ThreadPoolExecutor(1) as executor:
        if not executor.submit(be_idle).result():
            pytest.skip("the kernel refuses")
        assert executor.submit(io_class).result() == 3
    assert io_class() == before != 3
