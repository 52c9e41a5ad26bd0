"""Every fill is tested with bodies that are read and with bodies that the store's threads receive."""

from __future__ import annotations

import pytest

from tests.support.scripted import ScriptedUpstream


@pytest.fixture(autouse=True, params=["read", "received"])
def _received(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedUpstream, "all_receive", request.param == "received")
