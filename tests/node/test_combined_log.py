"""The access log in combined form: both ways into it write the same line, and nothing in it breaks a reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.request.client import Client
from tests.node.test_access_log import NASTY
from tests.support.access import WrittenCombinedLog
from tests.support.answers import answer
from tests.support.ground import Ground, GroundOptions

GROUND = GroundOptions(config='[log]\naccess_format = "combined"\naccess_file = "access.log"\n')
LINE = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+) "-" '
    r'"(?P<ua>[^"]*)" "(?P<cache>[^"]*)" (?P<host>\S+) (?P<service>\S+) (?P<outcome>\S+) (?P<seconds>\d+\.\d{3}) '
    r'"(?P<range>[^"]*)"'
)
FACTS: dict[str, Any] = {
    "client": Client("192.0.2.7"),
    "method": "GET",
    "form": "cache-host",
    "service": "windows-update",
    "host": "dl.delivery.mp.microsoft.com",
    "path": "/files/abc?P1=1&P4=secret",
    "outcome": "hit",
    "cache_status": "cacheserver; hit",
    "user_agent": "Microsoft-Delivery-Optimization/10.0",
}


def test_both_ways_write_the_same_line(tmp_path: Path) -> None:
    access = WrittenCombinedLog(str(tmp_path / "a"), wall_s=lambda: 1_700_000_000.25)
    numbers: dict[str, Any] = {"status": 206, "body_bytes": 10, "duration_s": 0.0123}
    access.record(answer(**FACTS, **numbers, range="bytes=0-9"))
    access.record(answer(**FACTS, **numbers, range=b"0-9"), {})
    access.close()
    first, second = (tmp_path / "a").read_text().splitlines()
    assert (
        first
        == second
        == (
            '192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] "GET /files/abc HTTP/1.1" 206 10 "-" '
            '"Microsoft-Delivery-Optimization/10.0" "cacheserver; hit" dl.delivery.mp.microsoft.com windows-update hit '
            '0.012 "bytes=0-9"'
        )
    )


@pytest.mark.parametrize("text", [NASTY, 'a"b\\c', "a b", "", "\ud800", "x" * 100_000])
def test_line_keeps_its_shape_whatever_the_client_sent(text: str, tmp_path: Path) -> None:
    access = WrittenCombinedLog(str(tmp_path / "a"))
    facts = {**FACTS, "user_agent": text, "path": f"/{text}", "host": text, "method": text, "cache_status": text}
    access.record(answer(**facts, status=400, range=text))
    access.close()
    raw = (tmp_path / "a").read_bytes()
    line = raw.decode("ascii").removesuffix("\n")
    assert line.isprintable()
    assert LINE.fullmatch(line), line
    assert len(line) < 10_000


def test_missing_facts_are_hyphens(tmp_path: Path) -> None:
    access = WrittenCombinedLog(str(tmp_path / "a"), wall_s=lambda: 0.0)
    access.record(answer(**{**FACTS, "user_agent": None, "cache_status": "", "host": ""}, status=403))
    access.close()
    match = LINE.fullmatch((tmp_path / "a").read_text().rstrip("\n"))
    assert match is not None
    assert (match["ua"], match["cache"], match["host"], match["range"]) == ("-", "-", "-", "-")


@pytest.mark.asyncio(loop_scope="module")
async def test_node_writes_combined_lines_from_the_full_path_and_the_lane(ground: Ground) -> None:
    path = ground.add(b"x" * 100)
    for _ in range(3):
        assert (await ground.get(f"{path}")).status == 200
    file = ground.node.config_file.parent / "access.log"
    await ground.node.stop()  # everything is written at the end
    lines = [LINE.fullmatch(line) for line in file.read_text().splitlines()]
    await ground.node.start()
    assert [line and line["outcome"] for line in lines] == ["miss", "hit", "hit"]
    assert all(line and line["request"] == f"GET {path} HTTP/1.1" and line["bytes"] == "100" for line in lines)


@pytest.mark.asyncio(loop_scope="module")
async def test_another_format_waits_for_a_restart_and_says_so(ground: Ground) -> None:
    config = ground.node.config_file
    mark = len(ground.node.log)
    config.write_text(config.read_text().replace('"combined"', '"json"'))
    ground.node.reload()
    line = await ground.node.wait_log(lambda line: line.get("event") == "reloaded", since=mark)
    assert line["needs_restart"] == ["log.access_format"]
