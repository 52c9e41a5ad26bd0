"""Settings that are accepted and have no effect any more: each is told once, and nothing else follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.cli import main as cli
from cacheserver.settings.load import Flags, load_settings
from tests.support.ground import GroundOptions, running_ground

REASON = "the node is one process"


@pytest.mark.parametrize("workers", [0, 1, 4])
async def test_a_node_that_is_to_have_workers_is_one_process_and_says_so_once(workers: int, tmp_path: Path) -> None:
    options = GroundOptions(config=f"[server]\nworkers = {workers}\n")
    async with running_ground(tmp_path, options) as ground:
        (told,) = [line for line in ground.node.log if line.get("event") == "setting_ignored"]
        assert (told["level"], told["setting"]) == ("warning", "server.workers")
        assert REASON in told["reason"]
        pid = ground.node.process.pid
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
        path = ground.add(b"served")
        assert (await ground.get(path)).body == b"served"


async def test_a_reload_that_changes_an_ignored_setting_needs_no_restart(tmp_path: Path) -> None:
    async with running_ground(tmp_path, GroundOptions()) as ground:
        assert not [line for line in ground.node.log if line.get("event") == "setting_ignored"]
        ground.node.config_file.write_text("[server]\nworkers = 2\n")
        ground.node.reload()
        line = await ground.node.wait_log(lambda line: line.get("event") == "reloaded")
        assert line.get("needs_restart", []) == []
        await ground.node.wait_log(lambda line: line.get("event") == "setting_ignored")


@pytest.mark.parametrize("flag", [True, False], ids=["flag", "file"])
def test_check_config_tells_of_an_ignored_setting_and_is_content(
    flag: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("" if flag else "[server]\nworkers = 2\n")
    assert cli.run(["check-config", str(path), *(["--workers", "2"] if flag else [])]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("ok: ")
    (line,) = captured.err.splitlines()
    assert "server.workers is ignored" in line
    assert REASON in line


def test_settings_without_the_ignored_one_are_told_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    assert load_settings(str(path), Flags()).ignored() == ()
    assert cli.run(["check-config", str(path)]) == 0
    assert capsys.readouterr().err == ""
