"""The benches run, their output has its shape, and they notice wrong bytes. No speed is tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.check import check_sample
from bench.content import MIB, Truth, object_path, parse_path, write_stream
from bench.fetch import Ask, faults, fetch, pieces, whole
from bench.lab import AUTHORITY, ROOT, Lab, OriginLimits
from bench.load import LoadJob, measure
from bench.nginx import NGINX_STATIC
from bench.origin import PathRecord
from bench.servers import Running, find_program, running
from tests.bench.conftest import OBJECT_BYTES

needs_nginx = pytest.mark.skipif(find_program("nginx") is None, reason="nginx is not installed")


@pytest.fixture
def nginx(lab: Lab) -> Iterator[Running]:
    lab.write_objects(2, OBJECT_BYTES)
    with running(NGINX_STATIC, lab, 0) as server:
        yield server


def corrupt(lab: Lab, number: int, offset: int) -> None:
    """Flip one byte of one object's file."""
    with (lab.docroot / object_path(number, OBJECT_BYTES).lstrip("/")).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@needs_nginx
def test_hits_prints_machine_versions_rows_and_ratios_as_json(tmp_path: Path) -> None:
    out = tmp_path / "hits.json"
    argv = ["-m", "bench", "hits", "--quick", "--servers", "nginx-static", "--seconds", "0.1", "--runs", "1"]
    argv += ["--object-mib", "10", "--json", str(out)]
    done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(out.read_text())
    assert {"date", "commit", "cpu", "cores", "kernel", "python"} <= report["machine"].keys()
    assert report["versions"]["nginx-static"].startswith("nginx version")
    (bench,) = report["benches"]
    assert [row["case"] for row in bench["rows"]] == ["4 KiB", "64 KiB", "1 MiB", "10 MiB", "whole"]
    for row in bench["rows"]:
        assert row["errors"] == 0, row["first_fault"]
        assert row["rate"] > 0
        assert row["case"] == "whole" or row["first_byte_p50_ms"] <= row["first_byte_p99_ms"]
        assert row["checked_bodies"] > 0
        assert row["wrong_bodies"] == []
    assert bench["memory"]["nginx-static"]["rss_bytes"] > 0
    assert [row["measure"] for row in report["measures"] if row["figure"] is not None] == []


def test_fill_verifies_every_piece_of_the_half_with_a_manifest_and_says_what_it_costs(tmp_path: Path) -> None:
    out = tmp_path / "fill.json"
    argv = ["-m", "bench", "fill", "--quick", "--servers", "cacheserver", "--runs", "1", "--object-mib", "2"]
    done = subprocess.run(
        [sys.executable, *argv, "--json", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    (bench,) = json.loads(out.read_text())["benches"]
    assert [(row["rate_mbps"], row["manifest"]) for row in bench["rows"]] == [
        (rate, manifest) for rate in (1000.0, 0.0) for manifest in (False, True)
    ]
    for row in bench["rows"]:
        assert row["faults"] == []
        assert row["mib_per_s"] > 0
        assert row["executor_ms_per_mib"] > 0
    assert bench["hash_ms_per_mib"] > 0
    assert [row["bar"] for row in bench["measures"]] == [0.6, 0.95]


@needs_nginx
@pytest.mark.parametrize("range_bytes", [64 << 10, 0])
def test_checker_names_a_body_with_one_wrong_byte(lab: Lab, nginx: Running, range_bytes: int) -> None:
    targets = [object_path(0, OBJECT_BYTES)]
    right = check_sample(nginx.port, AUTHORITY, targets, lab.truth, range_bytes=range_bytes, sample=8)
    assert (right.bodies, right.faults) == (8, ())
    for offset in range(0, OBJECT_BYTES, 64 << 10):
        corrupt(lab, 0, offset)
    wrong = check_sample(nginx.port, AUTHORITY, targets, lab.truth, range_bytes=range_bytes, sample=8)
    assert len(wrong.faults) == 8
    assert "wrong bytes" in wrong.faults[0]


@needs_nginx
def test_checker_names_an_answer_that_is_not_the_range(lab: Lab, nginx: Running) -> None:
    missing = [object_path(7, OBJECT_BYTES)]
    verdict = check_sample(nginx.port, AUTHORITY, missing, lab.truth, range_bytes=4096, sample=2)
    assert [fault.rpartition(": ")[2] for fault in verdict.faults] == ["status 404", "status 404"]


@needs_nginx
def test_checking_client_ends_at_the_first_wrong_byte_and_names_its_place(lab: Lab, nginx: Running) -> None:
    corrupt(lab, 1, MIB + 5)
    records = fetch(nginx.port, AUTHORITY, [pieces(1, OBJECT_BYTES, MIB), [whole(0, OBJECT_BYTES)]], lab.truth)
    assert [got.fault for got in (records[0][0], records[1][0])] == ["", ""]
    assert "wrong bytes" in records[0][1].fault
    assert len(faults(records)) == 1


def load_job(server: Running, target: str, *, seconds: float) -> LoadJob:
    return LoadJob(server.port, AUTHORITY, (target,), OBJECT_BYTES, 64 << 10, connections=2, seconds=seconds)


@needs_nginx
def test_load_generator_gives_up_and_names_the_status_when_every_answer_is_wrong(nginx: Running) -> None:
    with pytest.raises(RuntimeError, match="404 Not Found"):
        measure(load_job(nginx, object_path(9, OBJECT_BYTES), seconds=20))


@needs_nginx
def test_load_generator_counts_exactly_the_bytes_of_its_answers(nginx: Running) -> None:
    result = measure(load_job(nginx, object_path(1, OBJECT_BYTES), seconds=0.05))
    assert result.errors == 0
    assert result.requests > 0
    # Answers that were under way at either end of the run are counted in part: at most one per connection.
    assert abs(result.body_bytes - result.requests * (64 << 10)) <= 2 * (64 << 10)


def test_counting_origin_counts_bytes_and_duplicates_and_gives_right_ones(lab: Lab) -> None:
    with lab.origin(OriginLimits(delay_ms=1, total_mbps=8000)) as origin:
        asks = [Ask(3, OBJECT_BYTES, 0, 1000), Ask(3, OBJECT_BYTES, 500, 1500), whole(4, OBJECT_BYTES)]
        assert faults(fetch(origin.port, AUTHORITY, [asks], lab.truth)) == []
        ranged, entire = (origin.record(object_path(number, OBJECT_BYTES)) for number in (3, 4))
    assert (ranged["requests"], ranged["body_bytes"], ranged["duplicate_bytes"]) == (2, 2000, 500)
    assert (entire["requests"], entire["body_bytes"], entire["duplicate_bytes"]) == (1, OBJECT_BYTES, 0)


@pytest.mark.parametrize("limits", [OriginLimits(total_mbps=40), OriginLimits(connection_mbps=40)])
def test_counting_origin_keeps_to_its_rate_also_after_a_pause(lab: Lab, limits: OriginLimits) -> None:
    asks = [Ask(5, OBJECT_BYTES, start, start + 50_000) for start in range(0, 500_000, 50_000)]
    with lab.origin(replace(limits, delay_ms=20)) as origin:
        (answers,) = fetch(origin.port, AUTHORITY, [asks], lab.truth)
    assert faults([answers]) == []
    # 10 ms at 40 Mbit/s each, and never less: a line that rests saves nothing up.
    assert min(got.done_at - got.sent_at for got in answers) >= 0.0299


@pytest.mark.parametrize(
    ("given", "body", "duplicate", "spans"),
    [
        ([(0, 10), (10, 20)], 20, 0, [[0, 20]]),
        ([(0, 10), (20, 30), (5, 25)], 40, 10, [[0, 30]]),
        ([(0, 10), (0, 10), (0, 10)], 30, 20, [[0, 10]]),
        ([(30, 40), (0, 10)], 20, 0, [[0, 10], [30, 40]]),
    ],
)
def test_path_record_counts_every_byte_given_again(
    given: list[tuple[int, int]], body: int, duplicate: int, spans: list[list[int]]
) -> None:
    record = PathRecord()
    for start, stop in given:
        record.gave(start, stop)
    assert (record.body_bytes, record.duplicate_bytes, record.spans) == (body, duplicate, spans)


def test_objects_of_the_truth_differ_at_every_aligned_place(tmp_path: Path) -> None:
    stream = tmp_path / "stream"
    write_stream(stream, seed=1, longest_bytes=4 * MIB)
    truth = Truth(stream)
    seen = {truth.read(number, start, start + 4096) for number in range(4) for start in range(0, 4 * MIB, MIB)}
    assert len(seen) == 16
    assert truth.longest_bytes >= 4 * MIB
    assert parse_path(object_path(12, 345)) == (12, 345)
    assert parse_path("/o/99999-1.bin") is None
