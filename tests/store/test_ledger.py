"""The space ledger keeps I4."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from cacheserver.core.errors import StoreFull
from cacheserver.store.ledger import Ledger, Reservation

CAPACITY = 1000
AMOUNTS = st.integers(0, 1200)


class LedgerAgainstModel(RuleBasedStateMachine):
    """Every reservation ends in commits or a release, and the sums follow."""

    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(capacity_bytes=CAPACITY)
        self.stored = 0
        self.open: dict[Reservation, int] = {}

    @rule(target=reservations, amount=AMOUNTS)
    def reserve(self, amount: int) -> object:
        free = CAPACITY - self.stored - sum(self.open.values())
        if amount > free:
            with pytest.raises(StoreFull) as caught:
                self.ledger.reserve(amount)
            assert caught.value.missing_bytes == amount - free
            return multiple()
        reservation = self.ledger.reserve(amount)
        self.open[reservation] = amount
        return reservation

    @rule(reservation=reservations, amount=AMOUNTS)
    def commit(self, reservation: Reservation, amount: int) -> None:
        if amount > self.open.get(reservation, 0):
            with pytest.raises(ValueError, match="cannot commit"):
                reservation.commit(amount)
            return
        reservation.commit(amount)
        self.stored += amount
        if reservation in self.open:
            self.open[reservation] -= amount

    @rule(reservation=reservations)
    def release(self, reservation: Reservation) -> None:
        reservation.release()
        self.open.pop(reservation, None)

    @rule(share=st.floats(0, 1))
    def give_back(self, share: float) -> None:
        amount = int(self.stored * share)
        self.ledger.give_back(amount)
        self.stored -= amount

    @invariant()
    def sums_agree_and_fit(self) -> None:
        reserved = sum(self.open.values())
        assert self.ledger.stored_bytes == self.stored
        assert self.ledger.reserved_bytes == reserved
        assert self.ledger.free_bytes == CAPACITY - self.stored - reserved >= 0
        for reservation, amount in self.open.items():
            assert reservation.remaining_bytes == amount


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_context_releases_what_was_not_committed() -> None:
    ledger = Ledger(capacity_bytes=100)
    with ledger.reserve(60) as reservation:
        reservation.commit(20)
        assert (ledger.stored_bytes, ledger.reserved_bytes) == (20, 40)
    assert (ledger.stored_bytes, ledger.reserved_bytes, ledger.free_bytes) == (20, 0, 80)


def test_context_releases_when_the_writer_fails() -> None:
    ledger = Ledger(capacity_bytes=100)
    with pytest.raises(OSError, match="disk"), ledger.reserve(60):
        raise OSError("disk")
    assert ledger.free_bytes == 100


def test_release_twice_gives_back_once() -> None:
    ledger = Ledger(capacity_bytes=100)
    first, second = ledger.reserve(30), ledger.reserve(30)
    first.release()
    first.release()
    assert ledger.reserved_bytes == second.remaining_bytes == 30


def test_commit_after_release_is_refused() -> None:
    reservation = Ledger(capacity_bytes=100).reserve(30)
    reservation.release()
    with pytest.raises(ValueError, match="cannot commit"):
        reservation.commit(1)


def test_refusal_says_how_much_is_missing_above_an_overfull_start() -> None:
    ledger = Ledger(capacity_bytes=100)
    ledger.set_stored(130)
    assert ledger.free_bytes == -30
    with pytest.raises(StoreFull) as caught:
        ledger.reserve(10)
    assert caught.value.missing_bytes == 40
    ledger.give_back(40)
    assert ledger.reserve(10).remaining_bytes == 10


def test_stored_is_set_once_and_first() -> None:
    ledger = Ledger(capacity_bytes=100)
    ledger.set_stored(10)
    with pytest.raises(ValueError, match="once"):
        ledger.set_stored(10)
    late = Ledger(capacity_bytes=100)
    late.reserve(0).release()
    with pytest.raises(ValueError, match="once"):
        late.set_stored(10)


def test_correction_moves_stored_bytes_both_ways() -> None:
    ledger = Ledger(capacity_bytes=100)
    ledger.correct(120)
    assert ledger.free_bytes == -20
    ledger.correct(-50)
    assert ledger.stored_bytes == 70


def test_giving_back_more_than_is_stored_breaks_the_invariant() -> None:
    ledger = Ledger(capacity_bytes=100)
    ledger.set_stored(5)
    with pytest.raises(AssertionError, match="I4"):
        ledger.give_back(6)
    with pytest.raises(AssertionError, match="I4"):
        ledger.correct(-6)
    assert ledger.stored_bytes == 5


@pytest.mark.parametrize("call", ["reserve", "give_back", "set_stored"])
def test_negative_amounts_are_refused(call: str) -> None:
    ledger = Ledger(capacity_bytes=100)
    with pytest.raises(ValueError):
        getattr(ledger, call)(-1)


def test_negative_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Ledger(capacity_bytes=-1)


def test_store_full_without_a_number_is_still_possible() -> None:
    assert StoreFull("full").missing_bytes == 0
    assert str(StoreFull("full")) == "full"
    assert StoreFull().args == ()


def test_the_last_byte_can_be_reserved_and_not_one_more() -> None:
    ledger = Ledger(capacity_bytes=CAPACITY)
    with pytest.raises(StoreFull) as caught:
        ledger.reserve(CAPACITY + 1)
    assert caught.value.missing_bytes == 1
    with ledger.reserve(CAPACITY) as reservation:
        reservation.commit(0)
        assert (ledger.free_bytes, reservation.remaining_bytes) == (0, CAPACITY)
    assert Ledger(capacity_bytes=0).free_bytes == 0
