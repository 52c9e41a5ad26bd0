"""What one bound and the shares of it admit."""

from __future__ import annotations

from cacheserver.core.memory_budget import MemoryBudget, Use


def test_nothing_goes_beyond_the_bound() -> None:
    budget = MemoryBudget(100, weight=lambda _client: 9)
    first, second = budget.lease(Use.COLLECTED, "a"), budget.lease(Use.HELD_BACK, "b")
    assert [first.grow(60), second.grow(50), second.grow(40), first.grow(1)] == [True, False, True, False]
    assert dict(budget.rows()) == {("collected",): 60, ("held_back",): 40, ("refusals",): 0, ("manifests",): 0}
    first.close()
    first.close()
    assert (budget.held_bytes, second.grow(60)) == (40, True)


def test_one_client_has_a_quarter_once_half_is_taken() -> None:
    budget = MemoryBudget(100, weight=lambda client: 2 if client == "site" else 1)
    one, other, site = (budget.lease(Use.COLLECTED, client) for client in ("one", "other", "site"))
    assert [one.grow(50), one.grow(1)] == [True, False], "half of it is anybody's"
    assert [other.grow(25), other.grow(1)] == [True, False]
    assert site.grow(25)
    one.close()
    assert site.grow(25), "as many shares as clients"


def test_a_lease_ends_with_its_context_and_leaves_nothing() -> None:
    budget = MemoryBudget(10)
    with budget.lease(Use.COLLECTED, "a") as lease:
        assert lease.grow(5)
    assert (budget.held_bytes, budget._by_client) == (0, {})
    held = 7
    budget.watch(Use.REFUSALS, lambda: held)
    assert dict(budget.rows())["refusals",] == 7
