"""Every command finds the settings file in one way, and a running node's address and token in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cacheserver.cli import main as cli
from cacheserver.cli import options
from cacheserver.cli.admin_client import AdminClient
from cacheserver.core.errors import AdminFailed

TOKEN = "a-token-of-enough-characters"
ASKING = {
    "health": (),
    "pin": ("http://a.example/x",),
    "pins": (),
    "purge": ("http://a.example/x",),
    "scrub": (),
    "unpin": ("http://a.example/x",),
    "verify": ("http://a.example/x",),
}
"""The commands that speak to a running node, with what they need."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, int], str]]:
    """Address and token of every client that was made; it reaches no node."""
    made: list[tuple[tuple[str, int], str]] = []

    class Client(AdminClient):
        def __init__(self, address: tuple[str, int], token: str = "") -> None:
            made.append((address, token))

        def _exchange(self, *_asked: object) -> tuple[int, bytes]:
            raise AdminFailed("no node")

    monkeypatch.setattr(options, "AdminClient", Client)
    for name in ("CACHESERVER_CONFIG", "CACHESERVER_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file that the installer writes."""
    path = tmp_path / "cacheserver.toml"
    path.write_text(f'[admin]\nlisten = "0.0.0.0:8099"\ntoken = "{TOKEN}"\n')
    monkeypatch.setattr(options, "INSTALLED", str(path))
    return path


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield " ".join((*above, name)), command


def test_every_command_with_a_config_flag_finds_the_file_in_the_same_way() -> None:
    flags = {
        name: option for name, command in commands(cli.cli) for option in command.params if option.name == "config"
    }
    assert {"serve", "check-config", "doctor", "log summary", "export", *ASKING} <= flags.keys()
    assert {(name, option.envvar) for name, option in flags.items()} == {(name, "CACHESERVER_CONFIG") for name in flags}
    assert len({vars(option)["help"] for option in flags.values()}) == 1


@pytest.mark.parametrize("command", ASKING)
def test_every_command_that_asks_a_node_takes_the_same_flags(command: str) -> None:
    names = {option.name for option in cli.cli.commands[command].params}
    assert {"config", "admin", "token_file"} <= names


@pytest.mark.parametrize("command", ASKING)
def test_address_and_token_come_from_the_installed_settings(
    command: str, installed: Path, asked: list[tuple[tuple[str, int], str]]
) -> None:
    assert cli.run([command, *ASKING[command]]) == 1
    assert asked == [(("127.0.0.1", 8099), TOKEN)]


def test_the_environment_names_another_file_and_the_flag_wins(
    installed: Path, asked: list[tuple[tuple[str, int], str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for port in (8001, 8002):
        (tmp_path / str(port)).write_text(f'[admin]\nlisten = "127.0.0.1:{port}"\n')
    monkeypatch.setenv("CACHESERVER_CONFIG", str(tmp_path / "8001"))
    cli.run(["pins"])
    cli.run(["pins", "--config", str(tmp_path / "8002")])
    cli.run(["pins", "--config", ""])
    assert asked == [(("127.0.0.1", port), "") for port in (8001, 8002, 8081)]


def test_a_token_goes_to_no_address_but_that_of_its_settings(
    installed: Path, asked: list[tuple[tuple[str, int], str]], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("another-token-of-length\n")
    elsewhere = ("--admin", "192.0.2.1:8081")
    cli.run(["pins", *elsewhere])
    cli.run(["pins", *elsewhere, "--token-file", str(tmp_path / "token")])
    cli.run(["pins", *elsewhere, "--config", str(installed)])
    assert asked == [(("192.0.2.1", 8081), token) for token in ("", "another-token-of-length", TOKEN)]


def test_a_token_file_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["pins", "--config", "", "--token-file", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
