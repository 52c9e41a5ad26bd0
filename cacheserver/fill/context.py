"""The parts that all fills of a node share. Must not hold state of its own."""

from __future__ import annotations

from dataclasses import dataclass

from cacheserver.fill.asking import Asker
from cacheserver.fill.options import FillOptions
from cacheserver.ports import Meter
from cacheserver.store.store import Store


@dataclass(frozen=True, slots=True)
class FillContext:
    """Where fills store, whom they ask, the settings, and what counts all that."""

    store: Store
    asker: Asker
    options: FillOptions
    meter: Meter
