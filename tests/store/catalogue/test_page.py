"""Pages of the catalogue in the order of ids: the scrubber's way through a volume."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from cacheserver.core.errors import CorruptObject
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord
from tests.support.catalogue import oid, record, sql


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(str(tmp_path / "catalogue"))
    yield opened
    opened.close()


def walked(catalogue: Catalogue, limit: int, start: str | None = "") -> list[str]:
    """Ids of all pages."""
    ids: list[str] = []
    while start is not None:
        rows, start = catalogue.page(start, limit)
        assert len(rows) <= limit
        ids.extend(object_id for object_id, _ in rows)
    return ids


@pytest.mark.parametrize("limit", [1, 7, 99, 100, 101])
async def test_pages_hold_every_row_once_in_order(catalogue: Catalogue, limit: int) -> None:
    numbers = random.Random(1).sample(range(1 << 60), 100)
    for number in numbers:
        catalogue.put(oid(number), record(number % 1000))
    await catalogue.flush()
    assert walked(catalogue, limit) == [oid(number) for number in sorted(numbers)]


async def test_a_walk_goes_on_at_any_id_whether_it_is_still_there_or_not(catalogue: Catalogue) -> None:
    for number in range(0, 40, 2):
        catalogue.put(oid(number), record(1))
    await catalogue.flush()
    assert walked(catalogue, 3, oid(20))[0] == oid(20)
    assert walked(catalogue, 3, oid(21)) == [oid(number) for number in range(22, 40, 2)]
    assert walked(catalogue, 3, oid(39)) == []


async def test_rows_of_objects_are_read_page_by_page_and_markers_are_left_out(catalogue: Catalogue) -> None:
    marker = CatalogueRecord(length_bytes=0, stored_bytes=1, complete=True, service="s", vary=("accept",))
    for number in range(1200):
        catalogue.put(oid(number), marker if number % 3 == 0 else record(number))
    await catalogue.flush()
    with ThreadPoolExecutor(1) as executor:
        found = [row async for row in catalogue.objects(executor, oid(5))]
    assert found == [(oid(number), record(number)) for number in range(5, 1200) if number % 3]


async def test_rows_that_are_no_rows_are_left_out_and_end_no_walk(tmp_path: Path, catalogue: Catalogue) -> None:
    for number in range(20):
        catalogue.put(oid(number), record(number))
    await catalogue.flush()
    directory = tmp_path / "catalogue"
    for number, change in enumerate(
        ("raw = 0", "mode = 4", "key = x'ff00'", "key = 'ü' || key", "value = x'00'", "tag = -1", "filename = '../x'")
    ):
        sql(directory, f"UPDATE Cache SET {change} WHERE key = ?", oid(2 * number + 1))
    spoilt = {oid(2 * number + 1) for number in range(7)}
    for limit in (1, 4, 100):
        assert walked(catalogue, limit) == [oid(number) for number in range(20) if oid(number) not in spoilt]


async def test_a_page_is_found_by_the_index(tmp_path: Path, catalogue: Catalogue) -> None:
    from cacheserver.store.catalogue.catalogue import _PAGE_BY_ID

    with closing(sqlite3.connect(tmp_path / "catalogue" / "cache.db")) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {_PAGE_BY_ID}", ("", 1)))
    assert "SEARCH" in plan
    assert "TEMP B-TREE" not in plan


async def test_a_page_that_does_not_lead_on_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn:
        def execute(self, *_args: object) -> Torn:
            return self

        def fetchall(self) -> list[tuple[int, int, bytes, bytes, int]]:
            return [(1, 1, b"0" * 32, b"", 0)] * 2

    catalogue = Catalogue(str(tmp_path / "catalogue"))
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "_reader", lambda: nullcontext(Torn()))
        assert catalogue.page("0" * 32, limit=3) == ([], None)
        for start in ("0" * 33, "f" * 32):
            with pytest.raises(CorruptObject, match="order"):
                catalogue.page(start, limit=2)
    catalogue.close()


async def test_markers_are_no_objects(tmp_path: Path) -> None:
    catalogue = Catalogue(str(tmp_path / "catalogue"))
    catalogue.put("a" * 32, CatalogueRecord(1, 1, True, "s"))
    catalogue.put("b" * 32, CatalogueRecord(1, 1, True, "s", vary=("accept",)))
    await catalogue.flush()
    with ThreadPoolExecutor(1) as executor:
        assert [object_id async for object_id, _record in catalogue.objects(executor)] == ["a" * 32]
    catalogue.close()
