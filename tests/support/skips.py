"""Skipped tests are failures in CI, except those of one table.

Owns the table and the pytest plugin that applies it. Must not skip tests.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import Final

import pytest

EXPECTED: Final[Mapping[str, str]] = {
    r"tests/lanes/test_lanes\.py::test_half_a_head_behind_the_last_answer_is_not_waited_for\[tls\]": (
        "a TLS connection cannot be half-closed"
    ),
    r"tests/test_packaging\.py::test_hadolint_has_nothing_to_say": "Debian has no package of hadolint",
}
"""Tests that may be skipped in CI, as regular expressions of whole test ids, and why CI cannot run them."""


class UnexpectedSkipsFail:
    """Report each skip of a test or module that no pattern of ``expected`` covers as a failure, with its reason."""

    def __init__(self, expected: Mapping[str, str]) -> None:
        self._expected = re.compile("|".join(f"(?:{pattern})" for pattern in expected) or "(?!)")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Check the report of one phase of a test. An expected failure is no skip."""
        report = yield
        if not hasattr(report, "wasxfail"):
            self._check(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Check the report of one collected module."""
        report = yield
        self._check(report)
        return report

    def _check(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not self._expected.fullmatch(report.nodeid):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            report.outcome = "failed"
            report.longrepr = f"CI runs every test, but {report.nodeid} was skipped: {reason}"
