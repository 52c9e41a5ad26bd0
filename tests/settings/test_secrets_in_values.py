"""A secret in the wrong place of the settings is refused or taken, and never printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from cacheserver.cli import main as cli
from cacheserver.core.request.service import ServiceTable
from cacheserver.doctor.redact import redact_settings
from cacheserver.settings.schema import Settings

SECRET = "S3cr3tV4lue"
SHAPES = (
    f"http://user:{SECRET}@host.example/path",
    f"http://user:a/{SECRET}@host.example",
    f"https://host.example/path?key={SECRET}",
    f"https://host.example/path#{SECRET}",
    f"user:{SECRET}@host.example:80",
    f"Authorization: Bearer {SECRET}",
    f"Bearer {SECRET}",
)


def leaves(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every place of the schema that takes text; a list is marked by ``[]``, a free key by ``*``."""
    arguments = [part for part in get_args(kind) if part is not Ellipsis]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for name, member in get_type_hints(kind).items():
            if name not in ("services", "name"):
                yield from leaves(member, (*path, name))
    elif get_origin(kind) is tuple:
        yield from leaves(arguments[0], (*path, "[]"))
    elif get_origin(kind) is dict:
        yield from leaves(arguments[1], (*path, "host.example"))
    elif get_origin(kind) is None or str in arguments or all(isinstance(part, str) for part in arguments):
        yield path


NAMES_OF_FILES = {"path", "certificate", "key", "ca_file", "access_file", "catalogues"}
"""These are shown: any text is the name of a file, but for URLs."""
PLACES = [*leaves(Settings), *leaves(ServiceTable, ("services", "mine"))]


def tree(path: tuple[str, ...], value: str) -> Any:
    """Settings with the value in this place."""
    if not path:
        return value
    inner = tree(path[1:], value)
    return [inner] if path[0] == "[]" else {path[0]: inner}


def toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(member)}" for key, member in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_no_command_repeats_a_secret(
    place: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    for shape in SHAPES[: 4 if NAMES_OF_FILES & {*place} else None]:
        settings = tree(place, shape)
        if place[0] == "services":
            settings["services"]["mine"].setdefault("hosts", ["host.example"])
        file.write_text("".join(f"{key} = {toml(member)}\n" for key, member in settings.items()))
        assert cli.run(("check-config", str(file))) in (0, 2)
        assert SECRET not in "".join(capsys.readouterr()), shape
        assert SECRET not in json.dumps(redact_settings(settings)), shape
