"""One scene per test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.scene import Scene, filled, new_keys


@pytest.fixture
def scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Scene:
    """An empty place with a signer."""
    return Scene(tmp_path, capsys, new_keys(tmp_path))


@pytest.fixture
def signed(scene: Scene) -> Scene:
    """A signed bundle of the three known objects."""
    filled(scene.directory / "source")
    assert scene.export("all", cache=scene.directory / "source").code == 0
    return scene
