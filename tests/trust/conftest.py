"""One certificate authority for all tests of trust."""

from __future__ import annotations

import pytest

from tests.support.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority whose ``ca_file`` the anchors are told to trust."""
    return Authority(tmp_path_factory.mktemp("authority"))
