"""A small laboratory, shared by the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.content import MIB
from bench.lab import Lab

OBJECT_BYTES = 2 * MIB


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(seed=5, longest_bytes=8 * MIB) as opened:
        yield opened
