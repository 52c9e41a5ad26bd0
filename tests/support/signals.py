"""Signals of child processes."""

from __future__ import annotations

import signal


def as_from_a_terminal() -> None:
    """Before a child's program: no signal is ignored, as some are when the tests run in the background."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
