"""Reads the tables of ``tests/data``: rules of HTTP and habits of clients, as data.

Owns reading only.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

_DATA = Path(__file__).resolve().parents[1] / "data"


def cases(file: str, table: str) -> list[ParameterSet]:
    """The entries of ``[[table]]`` in a TOML file as pytest parameters, named by their ``name``."""
    entries: list[dict[str, Any]] = tomllib.loads((_DATA / file).read_text(encoding="utf-8"))[table]
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names), f"{file}: two entries of {table} have one name"
    return [pytest.param(entry, id=entry["name"]) for entry in entries]
