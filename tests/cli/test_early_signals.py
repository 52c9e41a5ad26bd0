"""A signal that reaches a node before its own handlers are set."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from cacheserver.cli import main as command_line


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(command_line, "_drop_what_cannot_be_written", lambda: None)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before[0])
    signal.signal(signal.SIGTERM, before[1])


def test_a_reload_signal_before_a_node_is_ready_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        return 0

    monkeypatch.setattr("sys.argv", ["cacheserver", "serve"])
    monkeypatch.setattr(command_line, "run", run)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert type(ended.value) is SystemExit
    assert ended.value.code == 0


def test_a_hang_up_still_ends_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cacheserver", "fetch"])
    monkeypatch.setattr(command_line, "run", lambda: 0)
    with pytest.raises(SystemExit):
        command_line.main()
    assert signal.getsignal(signal.SIGHUP) is command_line._leave
