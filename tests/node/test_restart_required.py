"""A reload names every change that waits for a restart, for as long as it waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cacheserver.node.restart import TAKEN_UP, changed, needs_restart
from cacheserver.settings.schema import Settings
from tests.support.ground import GroundOptions, running_ground

PROBE = object()


def leaves() -> Iterator[str]:
    for section in msgspec.structs.fields(Settings):
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct):
            for field in msgspec.structs.fields(section.type):
                yield f"{section.name}.{field.name}"
        else:
            yield section.name


def with_other(name: str) -> Settings:
    """The default settings with another value for one setting; its type does not matter to a comparison."""
    section, _, field = name.partition(".")
    settings = Settings()
    if not field:
        return msgspec.structs.replace(settings, **{section: PROBE})
    part = msgspec.structs.replace(getattr(settings, section), **{field: PROBE})
    return msgspec.structs.replace(settings, **{section: part})


@pytest.mark.parametrize("name", list(leaves()))
def test_a_change_is_taken_up_or_named(name: str) -> None:
    taken_up = bool({name, name.partition(".")[0]} & TAKEN_UP)
    assert changed(Settings(), with_other(name)) == [name]
    assert needs_restart(Settings(), with_other(name)) == (() if taken_up else (name,))


def test_the_list_names_settings_only() -> None:
    known = set(leaves())
    assert {name for name in TAKEN_UP if name not in known | {leaf.partition(".")[0] for leaf in known}} == set()


async def test_a_pending_change_is_named_until_it_is_taken_back(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions(config="[server]\n")) as ground:
        node = ground.node

        async def reloaded(text: str) -> list[str]:
            mark = len(node.log)
            node.config_file.write_text(text)
            node.reload()
            line = await node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
            assert (await node.status())["needs_restart"] == line["needs_restart"]
            assert (await node.metrics()).total("cacheserver_restart_required") == bool(line["needs_restart"])
            return list(line["needs_restart"])

        changed_file = '[server]\nmax_connections = 17\nmax_head = "8KiB"\n'
        for _ in range(2):  # a second reload must not forget what the first one named
            assert await reloaded(changed_file) == ["server.max_connections", "server.max_head"]
        assert await reloaded("[server]\n") == []
