"""A signal that reaches a node before its own handlers are set."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from cacheserver import __main__ as entry
from cacheserver.cli import main as command_line

NUMBERS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(command_line, "_drop_what_cannot_be_written", lambda: None)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def code_of(monkeypatch: pytest.MonkeyPatch, command: str, number: signal.Signals) -> object:
    """The exit code of a command that gets a signal before anything else has happened."""

    def run() -> int:
        os.kill(os.getpid(), number)
        return 7

    monkeypatch.setattr("sys.argv", ["cacheserver", command])
    monkeypatch.setattr(command_line, "run", run)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return ended.value.code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 7), (signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_node_that_is_told_to_end_before_it_has_begun_has_ended_well(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    assert code_of(monkeypatch, "serve", number) == code


def test_what_a_shell_has_ignored_for_a_node_in_the_background_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert code_of(monkeypatch, "serve", signal.SIGINT) == 7


def test_a_hang_up_still_ends_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cacheserver", "fetch"])
    monkeypatch.setattr(command_line, "run", lambda: 0)
    with pytest.raises(SystemExit):
        entry.main()
    assert signal.getsignal(signal.SIGHUP) is command_line._leave
