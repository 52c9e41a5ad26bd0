"""Rows for catalogue tests, and a writer that waits or fails when it is told to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from cacheserver.store.catalogue.batch_writer import Row
from cacheserver.store.catalogue.catalogue import Catalogue
from cacheserver.store.catalogue.record import CatalogueRecord


def oid(number: int) -> str:
    return f"{number:032x}"


def record(stored_bytes: int, service: str = "windows-update") -> CatalogueRecord:
    return CatalogueRecord(
        length_bytes=stored_bytes * 2, stored_bytes=stored_bytes, complete=stored_bytes % 2 == 0, service=service
    )


def sql(directory: Path, statement: str, *arguments: object) -> None:
    """Change the database behind the catalogue's back."""
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as connection:
        connection.execute(statement, arguments)


class Gate:
    """Holds the writer in front of its batch, and makes batches fail on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.failures: list[Exception] = []
        self.batches: list[dict[str, Row | None]] = []
        original = Catalogue._apply

        def gated(catalogue: Catalogue, batch: Mapping[str, Row | None]) -> None:
            self.waiting.set()
            assert self.open.wait(30)
            if self.failures:
                raise self.failures.pop(0)
            self.batches.append(dict(batch))
            original(catalogue, batch)

        monkeypatch.setattr(Catalogue, "_apply", gated)
