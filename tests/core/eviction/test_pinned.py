"""Pinned objects next to the eviction order: never chosen, never lost, and the rest goes on as before."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheserver.core.eviction.s3fifo import S3Fifo


def whole(number: int) -> bytes:
    return number.to_bytes(16, "big")


def unit(number: int, extent: int) -> bytes:
    """A unit of an object; extent 0 is the object itself."""
    return whole(number) + (extent.to_bytes(2, "big") if extent else b"")


def never(_key: bytes) -> bool:
    return False


OBJECTS = st.integers(0, 7)
KEYS = st.builds(unit, OBJECTS, st.integers(0, 3))


class PinnedPolicyAgainstModel(RuleBasedStateMachine):
    """The policy next to a dict of sizes and a set of pinned objects."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = S3Fifo(capacity_bytes=5000, ghost_entries=16)
        self.sizes: dict[bytes, int] = {}
        self.pinned: set[bytes] = set()

    @rule(key=KEYS, size=st.integers(0, 1000))
    def admit(self, key: bytes, size: int) -> None:
        self.policy.admit(key, size)
        self.sizes[key] = self.sizes.get(key, 0) + size

    @rule(key=KEYS)
    def touch(self, key: bytes) -> None:
        self.policy.touch(key)

    @rule(key=KEYS, delta=st.integers(-500, 500))
    def grow(self, key: bytes, delta: int) -> None:
        if key in self.sizes and self.sizes[key] + delta >= 0:
            assert self.policy.grow(key, delta)
            self.sizes[key] += delta
        elif key not in self.sizes:
            assert not self.policy.grow(key, delta)
        else:
            with pytest.raises(ValueError, match="out of range"):
                self.policy.grow(key, delta)

    @rule(key=KEYS)
    def remove(self, key: bytes) -> None:
        assert self.policy.remove(key) == self.sizes.pop(key, 0)

    @rule(number=OBJECTS)
    def pin(self, number: int) -> None:
        self.policy.pin(whole(number))
        self.pinned.add(whole(number))

    @rule(number=OBJECTS)
    def unpin(self, number: int) -> None:
        self.policy.unpin(whole(number))
        self.pinned.discard(whole(number))

    @rule(need=st.integers(-10, 6000), used=st.sets(KEYS))
    def evict(self, need: int, used: set[bytes]) -> None:
        chosen = self.policy.victims(need, skip=used.__contains__)
        assert len(set(chosen)) == len(chosen)
        assert not any(key[:16] in self.pinned or key in used for key in chosen)
        freed = [self.sizes.pop(key) for key in chosen]
        left = [key for key in self.sizes if key not in used and key[:16] not in self.pinned]
        assert sum(freed) >= need or not left

    @rule()
    def restart(self) -> None:
        """Pins are kept elsewhere; units that stood aside are admitted again from the catalogue."""
        restarted = S3Fifo(capacity_bytes=5000, ghost_entries=16)
        for known in self.policy.pinned():
            restarted.pin(known)
        restarted.restore(self.policy.snapshot())
        for key, size in self.sizes.items():
            if key not in restarted:
                restarted.admit(key, size)
        self.policy = restarted

    @invariant()
    def same_units_and_bytes(self) -> None:
        assert dict(self.policy.units()) == self.sizes
        assert len(list(self.policy.units())) == len(self.policy) == len(self.sizes)
        assert self.policy.used_bytes == sum(self.sizes.values())
        assert set(self.policy.pinned()) == self.pinned
        assert all(key in self.policy for key in self.sizes)
        assert all(self.policy.is_pinned(whole(number)) == (whole(number) in self.pinned) for number in range(8))


TestPinnedPolicyAgainstModel = PinnedPolicyAgainstModel.TestCase
TestPinnedPolicyAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_unpinned_units_leave_as_newcomers_do() -> None:
    policy = S3Fifo(capacity_bytes=100)
    policy.pin(whole(1))
    for number in (1, 2, 3):
        policy.admit(unit(number, 0), 30)
    assert policy.victims(1000, skip=never) == [unit(2, 0), unit(3, 0)]
    policy.unpin(whole(1))
    assert policy.victims(1000, skip=never) == [unit(1, 0)]


def test_pinned_bytes_do_not_count_in_the_share_of_newcomers() -> None:
    policy = S3Fifo(capacity_bytes=1000)
    policy.pin(whole(9))
    policy.admit(unit(9, 0), 900)
    policy.admit(unit(1, 0), 5)  # wanted again: it goes to the main queue
    for _ in range(2):
        policy.touch(unit(1, 0))
    policy.admit(unit(2, 0), 50)
    assert policy.victims(1, skip=never) == [unit(2, 0)]
    policy.admit(unit(3, 0), 9)
    assert policy.victims(1, skip=never) == [unit(1, 0)], "a newcomer within its tenth of what pins leave stays"


def test_every_pinned_unit_is_met_once_in_a_queue() -> None:
    policy = S3Fifo(capacity_bytes=1000)
    asked: list[bytes] = []

    def skip(key: bytes) -> bool:
        asked.append(key)
        return False

    for number in range(6):
        policy.admit(unit(number, 0), 10)
    policy.pin(whole(0))
    policy.pin(whole(1))
    assert policy.victims(10, skip=skip) == [unit(2, 0)]
    assert policy.victims(1000, skip=skip) == [unit(number, 0) for number in (3, 4, 5)]
    assert asked == [unit(number, 0) for number in (2, 3, 4, 5)]
    assert dict(policy.units()) == {unit(0, 0): 10, unit(1, 0): 10}


def test_an_id_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        S3Fifo(capacity_bytes=1).pin(b"short")


def test_a_unit_that_stands_aside_grows_is_counted_and_comes_back_whole() -> None:
    policy = S3Fifo(capacity_bytes=100)
    policy.pin(whole(1))
    policy.admit(unit(1, 0), 30)
    assert policy.snapshot() == S3Fifo(capacity_bytes=100).snapshot(), "it stands aside at once"
    assert policy.grow(unit(1, 0), 5)
    assert (policy.used_bytes, len(policy)) == (35, 1)
    with pytest.raises(ValueError, match="out of range"):
        policy.grow(unit(1, 0), -36)
    policy.unpin(whole(1))
    assert (dict(policy.units()), policy.used_bytes, len(policy)) == ({unit(1, 0): 35}, 35, 1)
    assert "no key" not in policy
