"""Rules of the whole suite: no skips in CI but the expected ones, and no deadline for examples of hypothesis."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support.skips import EXPECTED, UnexpectedSkipsFail

# An example is slow where the machine is busy. Hypothesis has a profile of its own for CI; the rest of it stays.
settings.register_profile("no_deadline", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("no_deadline")


def pytest_configure(config: pytest.Config) -> None:
    """CI sets ``CI``; anywhere else, a test may be skipped where a program or a privilege is missing."""
    if os.environ.get("CI"):
        config.pluginmanager.register(UnexpectedSkipsFail(EXPECTED))
