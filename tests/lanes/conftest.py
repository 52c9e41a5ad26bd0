"""These tests run on the loop that the node runs on: what its TLS transport does is what matters to a lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of every test of this folder."""
    return {"uvloop": uvloop.new_event_loop}
