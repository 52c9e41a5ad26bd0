"""Which connection goes when there are too many."""

from __future__ import annotations

from dataclasses import dataclass, field

from cacheserver.core.request.client_shares import SharedNetworks
from cacheserver.web.connection_shares import ConnectionShares, share_of

A, B = "192.0.2.1", "192.0.2.2"


@dataclass(eq=False)
class Fake:
    """A connection with or without a request under way."""

    waits: bool = False
    is_cut: bool = False

    def cut(self) -> None:
        self.is_cut = True


@dataclass
class Scene:
    """Four connections in all, two for each client."""

    frees: bool = False
    shared: SharedNetworks = field(default_factory=SharedNetworks)
    told: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shares = ConnectionShares(
            most=4,
            per_client=2,
            shared=self.shared,
            on_limit=lambda limit, address: self.told.append((limit, address)),
            frees=self.frees,
        )

    def take(self, address: str, *, waits: bool = False) -> Fake | None:
        fake = Fake(waits)
        return fake if self.shares.take(fake, address) else None


def test_a_client_with_its_share_under_way_gets_no_more_and_others_do() -> None:
    scene = Scene()
    assert scene.take(A)
    assert scene.take(A)
    assert scene.take(A) is None
    assert scene.take(B)
    assert scene.told == [("client", A)]


def test_an_idle_connection_of_the_same_client_makes_room_the_oldest_first() -> None:
    scene = Scene()
    idle = [scene.take(A, waits=True) for _ in range(2)]
    bystander = scene.take(B, waits=True)
    assert scene.take(A)
    assert [fake is not None and fake.is_cut for fake in (*idle, bystander)] == [True, False, False]
    assert len(scene.shares) == 3
    assert scene.told == [("idle", A)]


def test_a_connection_that_was_ended_for_another_is_given_back_once() -> None:
    scene = Scene()
    first = scene.take(A, waits=True)
    assert first is not None
    scene.take(A)
    scene.take(A)
    scene.shares.give_back(first)
    assert len(scene.shares) == 2
    assert scene.take(A) is None


def test_a_shared_network_has_the_share_of_its_clients() -> None:
    scene = Scene(shared=SharedNetworks([((f"{A}/32",), 2)]))
    assert all(scene.take(A) for _ in range(4))
    assert scene.take(A) is None


def test_what_is_full_refuses_or_makes_room_as_its_listener_asks() -> None:
    for frees in (False, True):
        scene = Scene(frees=frees)
        taken = [scene.take(f"192.0.2.{number}", waits=True) for number in range(4)]
        assert (scene.take("192.0.2.9") is not None) is frees
        assert taken[0] is not None
        assert taken[0].is_cut is frees
        assert scene.told == [("idle" if frees else "all", "192.0.2.9")]


def test_a_freed_place_can_be_taken_again() -> None:
    scene = Scene()
    held = [scene.take(A), scene.take(A)]
    assert held[0] is not None
    scene.shares.give_back(held[0])
    assert scene.take(A)


def test_without_a_setting_the_share_is_a_quarter_and_not_less_than_64() -> None:
    assert [share_of(0, 4000), share_of(0, 100), share_of(7, 4000)] == [1000, 64, 7]
