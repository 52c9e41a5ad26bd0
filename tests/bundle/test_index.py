"""What an import reports is what the index says afterwards: variants can be found, rotten pieces are right again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.vary import variant_key
from cacheserver.core.request.keys import object_id
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.store import MARKER_BYTES
from tests.bundle.scene import BODIES, PIECE, Scene, contents, opened, put, representation, sections
from tests.support.content import blob

PLAIN = representation("varied", 700)
PRIMARY = PLAIN.object_id
OLD, NEW = blob(8, 700), blob(9, 900)


def varied(names: tuple[str, ...], length_bytes: int, at_s: float) -> Representation:
    """The variant for one client, as an answer of that time."""
    key = variant_key(PLAIN.key, names, Fields((name, "1") for name in names)) if names else PLAIN.key
    found = replace(PLAIN, length_bytes=length_bytes, response_time_s=at_s)
    return replace(found, key=key, object_id=object_id(key), vary=names)


def hold(directory: Path, found: Representation, body: bytes) -> None:
    """Have a stopped node hold this, findable."""
    with opened(directory) as volume:
        put(volume, found, body)
        if found.vary:
            record = CatalogueRecord(0, MARKER_BYTES, True, found.service, found.vary)
            volume.catalogue.put(PRIMARY, record)
            volume.ledger.correct(MARKER_BYTES)


def names_at(directory: Path) -> tuple[str, ...] | None:
    """By which fields the primary key selects; () for an object, None where nothing is."""
    with opened(directory) as volume:
        row = volume.catalogue.get(PRIMARY)
        there = Path(volume.path_of(PRIMARY)).exists()
    assert row is None or there == (not row.vary)
    return None if row is None else row.vary


@pytest.mark.parametrize(
    ("before", "after"), [((), ("x-a",)), (("x-b",), ("x-a",)), (("x-a",), ())], ids=["plain", "other", "varied"]
)
def test_what_selects_otherwise_is_kept_or_replaced_but_never_hides_an_import(
    scene: Scene, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    source, target = scene.directory / "source", scene.directory / "target"
    hold(source, varied(after, len(NEW), 2.0), NEW)
    hold(target, varied(before, len(OLD), 1.0), OLD)
    assert scene.export("all", cache=source).code == 0
    kept = scene.take(target)
    assert ("0 objects imported" in kept.out, "1 kept" in kept.out) == (True, True)
    assert names_at(target) == before
    taken = scene.take(target, "--replace")
    assert "1 object imported" in taken.out
    assert names_at(target) == after


@pytest.mark.parametrize("first", ["older", "newer"])
def test_of_two_generations_in_one_bundle_the_later_one_is_found(scene: Scene, first: str) -> None:
    source, target = scene.directory / "source", scene.directory / "target"
    older, newer = varied(("x-a",), len(OLD), 1.0), varied(("x-b",), len(NEW), 2.0)
    if (older.object_id < newer.object_id) != (first == "older"):
        older, newer = varied(("x-b",), len(OLD), 1.0), varied(("x-a",), len(NEW), 2.0)
    hold(source, older, OLD)
    hold(source, newer, NEW)
    assert scene.export("all", cache=source).code == 0
    scene.take(target)
    assert names_at(target) == newer.vary


def test_a_variant_that_is_there_and_cannot_be_found_is_marked(scene: Scene) -> None:
    source = scene.directory / "source"
    hold(source, varied(("x-a",), len(NEW), 2.0), NEW)
    assert scene.export("all", cache=source).code == 0
    with opened(source) as volume:
        volume.catalogue.delete(PRIMARY)
    assert "1 already there" in scene.take(source, "--unsigned").out
    assert names_at(source) == ("x-a",)


def spoil(directory: Path, name: str, at: int) -> None:
    with opened(directory) as volume:
        path = Path(volume.path_of(representation(name, len(BODIES[name])).object_id))
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_piece_that_rotted_is_repaired_from_the_bundle(signed: Scene) -> None:
    target = signed.directory / "target"
    signed.take(target)
    spoil(target, "one", PIECE + 7)
    ran = signed.take(target)
    assert (ran.code, "2 already there, 1 repaired" in ran.out) == (0, True)
    assert "repaired: 1 piece" in ran.lines[0]
    assert {name: copy.body for name, copy in contents(target).items()} == BODIES
    assert "3 already there, 0 repaired" in signed.take(target).out


def test_a_piece_that_rotted_in_the_bundle_too_is_named(signed: Scene) -> None:
    target = signed.directory / "target"
    signed.take(target)
    spoil(target, "one", 7)
    entry, data = sections(signed)["one"], bytearray(signed.bundle.read_bytes())
    data[data.index(BODIES["one"][:64], entry.offset) + 9] ^= 1
    signed.bundle.write_bytes(data)
    ran = signed.take(target)
    assert (ran.code, "1 damaged" in ran.out) == (1, True)
