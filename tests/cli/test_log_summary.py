"""``cacheserver log summary``: sums that add up, from any file that a rotation leaves, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cacheserver.cli import main as cli
from cacheserver.core.request.client import Client
from cacheserver.logs.summary import Names, Summary, TopObjects
from tests.support.access import WrittenLog
from tests.support.answers import answer


def line(**changes: Any) -> bytes:
    values = {
        "ts": "2026-03-01T10:15:00.000Z",
        "client": "192.0.2.7",
        "service": "windows-update",
        "host": "dl.example",
        "path": "/a",
        "status": 200,
        "bytes": 100,
        "outcome": "hit",
        "cache": "cacheserver; hit",
    }
    return json.dumps({**values, **changes}).encode() + b"\n"


LOG = b"".join(
    (
        line(),
        line(bytes=300, outcome="miss", cache="cacheserver; fwd=uri-miss", client="192.0.2.200", path="/b"),
        line(bytes=50, ts="2026-03-01T11:00:00.000Z", client="2001:db8:1:2::9", outcome="client"),
        line(bytes=50, ts="2026-03-01T11:00:01.000Z", outcome="client", cache="cacheserver; fwd=uri-miss; stored"),
        b'{"ts":"2026-03-01T11:00:00.000Z","level":"info","event":"listening"}\n',
        line(bytes=0, status=403, outcome="refused", service="none", host="", path="/x?P4=secret"),
    )
)


def summed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.run(["log", "summary", "--json", *arguments]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_sums_are_right_by_every_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(LOG)
    found = summed(capsys, str(tmp_path / "a.log"))
    assert found["total"] == {"requests": 5, "bytes": 500, "hit_bytes": 150, "hit_ratio": 0.3}
    assert {name: row["bytes"] for name, row in found["services"].items()} == {"windows-update": 500, "none": 0}
    assert {name: row["requests"] for name, row in found["subnets"].items()} == {
        "192.0.2.0/24": 4,
        "2001:db8:1:2::/64": 1,
    }
    assert {name: row["requests"] for name, row in found["outcomes"].items()} == {
        "hit": 1,
        "miss": 1,
        "client": 2,
        "refused": 1,
    }
    assert {name: row["bytes"] for name, row in found["hours"].items()} == {
        "2026-03-01T10Z": 400,
        "2026-03-01T11Z": 100,
    }
    assert found["objects"][0] == {"object": "dl.example/b", "bytes": 300, "requests": 1}
    assert found["services"]["none"]["hit_ratio"] is None
    assert found["other_lines"] == 1


def test_named_subnets_take_the_longest_block_and_the_rest_is_other() -> None:
    subnets = Names()
    assert subnets.name("::ffff:192.0.2.9") == "192.0.2.0/24"
    assert subnets.name("fe80::1%eth0") == "fe80::/64"
    assert subnets.name("nonsense") == "unknown"


def test_subnet_option_groups_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(LOG)
    options = ["--subnet", "site=192.0.2.0/24", "--subnet", "lab=192.0.2.128/25", "--subnet", "site=198.51.100.0/24"]
    found = summed(capsys, str(tmp_path / "a.log"), *options)
    assert {name: row["bytes"] for name, row in found["subnets"].items()} == {"site": 150, "lab": 300, "other": 50}


def test_subnets_of_the_settings_group_clients_unless_flags_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.log").write_bytes(LOG)
    blocks = "".join(f"[[subnets]]\nname = 'site-{n}'\nnetworks = ['10.0.{n % 256}.{n // 256}']\n" for n in range(1023))
    (tmp_path / "c.toml").write_text(f"{blocks}[[subnets]]\nname = 'north'\nnetworks = ['192.0.2.0/24']\n")
    found = summed(capsys, str(tmp_path / "a.log"), "--config", str(tmp_path / "c.toml"))
    assert {name: row["bytes"] for name, row in found["subnets"].items()} == {"north": 450, "other": 50}
    flags = ("--subnet", "lab=192.0.2.0/24", "--config", str(tmp_path / "c.toml"))
    assert set(summed(capsys, str(tmp_path / "a.log"), *flags)["subnets"]) == {"lab", "other"}


def test_refusals_and_errors_are_no_part_of_the_share_of_hits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = line(bytes=900, status=403, outcome="refused", service="none", cache="")
    (tmp_path / "a.log").write_bytes(line() + refused + line(bytes=900, status=502, outcome="error", cache=""))
    found = summed(capsys, str(tmp_path / "a.log"))
    assert (found["total"]["bytes"], found["total"]["hit_ratio"]) == (1900, 1.0)
    assert found["services"]["none"]["hit_ratio"] is None


def test_plain_gzip_cut_gzip_and_torn_lines_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(LOG + line()[:40])
    (tmp_path / "a.log.1").write_bytes(gzip.compress(LOG) + gzip.compress(LOG))
    many = gzip.compress(b"".join(line(path=f"/{number}") for number in range(20_000)))
    (tmp_path / "a.log.2.gz").write_bytes(many[: len(many) // 2])
    found = summed(capsys, str(tmp_path / "a.log"), str(tmp_path / "a.log.1"))
    assert found["total"]["requests"] == 15
    assert found["other_lines"] == 4
    assert cli.run(["log", "summary", "--json", str(tmp_path / "a.log.2.gz")]) == 0
    captured = capsys.readouterr()
    assert 1000 < json.loads(captured.out)["total"]["requests"] < 20_000
    assert "cut off" in captured.err


def test_standard_input_is_read_without_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(LOG))))
        assert summed(capsys, *arguments)["total"]["requests"] == 5


def test_tables_show_no_token_and_no_control_character(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = line(path="/y\x1b[31m?P4=secret", bytes=7, outcome="a\nb\x1b", service="s\u202e")
    (tmp_path / "a.log").write_bytes(LOG + evil)
    assert cli.run(["log", "summary", str(tmp_path / "a.log")]) == 0
    out = capsys.readouterr().out
    assert "6 answers, 507B, 31.0% of the bytes from the cache" in out
    assert "secret" not in out
    assert out.replace("\n", "").isprintable()
    assert "secret" not in json.dumps(summed(capsys, str(tmp_path / "a.log")))


def test_lines_that_are_nothing_never_stop_the_reading() -> None:
    summary = Summary()
    nothing = [
        b"",
        b"\n",
        b"\xff\xfe\n",
        b"null\n",
        b"[" * 5000 + b"\n",
        b'{"status":"x"}\n',
        line(bytes=-5),
        line(ts="x"),
    ]
    summary.add_lines([*nothing, line()])
    assert (summary.total.requests, summary.other_lines) == (1, 6)


def test_line_without_end_costs_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(b"x" * 1_000_000 + b"\n" + line())
    found = summed(capsys, str(tmp_path / "a.log"))
    assert (found["total"]["requests"], found["other_lines"]) == (1, 1)


def test_tables_are_bounded_and_still_add_up() -> None:
    summary = Summary()
    summary.add_lines(line(service=f"s{number}", bytes=1) for number in range(10_500))
    assert len(summary.services.rows) == 10_001
    assert summary.services.rows["other"].requests == 500
    assert sum(sums.body_bytes for sums in summary.services.rows.values()) == 10_500


def test_large_objects_are_found_among_many_small_ones() -> None:
    objects = TopObjects(limit=50)
    for number in range(5000):
        objects.add(f"small-{number}", 1)
        if number % 10 == 0:
            objects.add("large", 1000)
    name, size, requests = objects.largest(1)[0]
    assert name == "large"
    assert size >= 500_000
    assert requests >= 500
    assert not objects.exact


def test_sums_are_exact_while_all_objects_fit() -> None:
    objects = TopObjects(limit=3)
    for name, size in (("a", 5), ("b", 7), ("a", 3), ("c", 1)):
        objects.add(name, size)
    assert objects.exact
    assert objects.largest(2) == [("a", 8, 2), ("b", 7, 1)]


def test_what_the_node_writes_is_what_the_summary_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    access = WrittenLog(str(tmp_path / "a"), wall_s=lambda: 1_700_000_000.25)
    known: dict[str, Any] = {"client": Client("192.0.2.7"), "form": "host", "host": "h", "path": "/p?P4=x"}
    access.record(answer("s", "miss", 200, 10, **known))
    access.record(answer("s", "hit", 206, 30, **known, range=b"0-29"), {})
    access.close()
    found = summed(capsys, str(tmp_path / "a"))
    assert found["total"] == {"requests": 2, "bytes": 40, "hit_bytes": 30, "hit_ratio": 0.75}
    assert found["objects"] == [{"object": "h/p", "bytes": 40, "requests": 2}]


@pytest.mark.parametrize("arguments", [["--subnet", "x"], ["--subnet", "=10.0.0.0/8"], ["--subnet", "a=10.0.0.1/8"]])
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["log", "summary", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["log", "summary", "/nonexistent/file"]) == 1
    assert capsys.readouterr().err == "cacheserver: error: /nonexistent/file: No such file or directory\n"


def test_a_number_that_no_log_has_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(line() + line(bytes=10**400) + line(bytes=2**63) + line(bytes=1e308))
    assert cli.run(["log", "summary", str(tmp_path / "a.log")]) == 0
    assert "no answers of the access log: 3 lines" in capsys.readouterr().out
