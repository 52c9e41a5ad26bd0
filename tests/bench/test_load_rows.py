"""The rows that need a load on a running server: TLS, a crowd. Tiny sizes; no speed is tested here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import crowd, hits, neighbours, process, tls
from bench.content import MIB, object_path
from bench.hits import CASES, QUICK, HitsPlan
from bench.lab import AUTHORITY, Lab
from bench.load import LoadJob, LoadResult, measure, run_load
from bench.nginx import NGINX_STATIC
from bench.node import node_kind, start_node, tls_settings
from bench.servers import Kind, Running, find_program, running
from tests.bench.conftest import OBJECT_BYTES

pytestmark = pytest.mark.skipif(find_program("nginx") is None, reason="nginx is not installed")
TINY = replace(
    QUICK, object_bytes=OBJECT_BYTES, objects=1, connections=2, runs=1, seconds=0.05, warmup_s=0.01, sample=2
)


@pytest.fixture
def kinds() -> list[Kind]:
    return [node_kind(), NGINX_STATIC]


def test_tls_row_uses_each_suite_on_both_servers_and_resumes_sessions(
    lab: Lab, kinds: list[Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CASES", tuple(case for case in tls.CASES if case.label.startswith("1 MiB")))
    found = tls.run_tls(lab, kinds, TINY)
    assert not found["wrong"]
    assert {(row["server"], row["cipher"]) for row in found["rows"]} == {
        (name, suite) for name in ("cacheserver", "nginx-static") for suite in tls.SUITES.values()
    }
    assert found["resumption"] == {"cacheserver": tls.RECONNECTS, "nginx-static": tls.RECONNECTS}
    assert [row["bar"] for row in found["measures"]] == [0.6, 0.6, 1.0]
    assert all(row["figure"] is not None for row in found["measures"])


def test_peer_that_fails_costs_its_own_rounds_alone_and_is_named(
    lab: Lab, kinds: list[Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    port_of: dict[str, int] = {}

    def start(kind: Kind, *where: Any) -> AbstractContextManager[Running]:
        return _noted(running(kind, *where), port_of)

    def load(job: LoadJob) -> LoadResult:
        in_second = job.range_bytes < MIB and job.seed == TINY.seed + 1
        if job.port == port_of["nginx-static"] and (job.range_bytes == MIB or in_second):
            raise RuntimeError("load generator failed:\nno answer")
        return run_load(job)

    monkeypatch.setattr(hits, "running", start)
    monkeypatch.setattr(hits, "run_load", load)
    found = hits.run_hits(lab, kinds, replace(TINY, runs=2, cases=(CASES[1], CASES[2])))
    assert [(row["case"], row["server"]) for row in found["rows"]] == [
        ("64 KiB", "cacheserver"), ("64 KiB", "nginx-static"), ("1 MiB", "cacheserver"),
    ]  # fmt: skip
    assert {row["measure"]: row["figure"] is not None for row in found["measures"]} == {
        "warm 64 KiB, vs nginx-static": True,
        "warm 1 MiB, vs the faster nginx": False,
    }
    first, peer, _large = found["rows"]
    assert [rate is None for rate in peer["rates"]] == [False, True]
    assert first["ratios"]["nginx-static"] == first["rates"][0] / peer["rates"][0]
    assert found["failed"]["1 MiB"]["nginx-static"].startswith("nginx-static, 1 MiB, run 2: load generator failed")
    assert not found["wrong"]


@contextlib.contextmanager
def _noted(starting: AbstractContextManager[Running], port_of: dict[str, int]) -> Iterator[Running]:
    with starting as server:
        port_of[server.name] = server.port
        yield server


def test_load_that_fails_on_the_node_fails_the_bench(
    lab: Lab, kinds: list[Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_job: LoadJob) -> LoadResult:
        raise RuntimeError("no answer")

    monkeypatch.setattr(hits, "run_load", load)
    with pytest.raises(RuntimeError, match="cacheserver, 64 KiB, run 1: no answer"):
        hits.run_hits(lab, kinds[:1], replace(TINY, cases=(CASES[1],)))


def test_load_generator_refuses_to_measure_a_server_whose_first_bytes_are_wrong(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "stream"
    other.write_bytes(bytes(lab.stream.stat().st_size))
    lab.write_objects(1, OBJECT_BYTES)
    with running(NGINX_STATIC, lab, 0) as server:
        job = LoadJob(
            server.port, AUTHORITY, (object_path(0, OBJECT_BYTES),), OBJECT_BYTES, 4096, connections=1, seconds=5
        )
        assert measure(replace(job, seconds=0.01, stream=str(lab.stream))).first_answers_checked == 1
        with pytest.raises(RuntimeError, match="wrong bytes in"):
            measure(replace(job, stream=str(other)))


def test_crowd_stays_connected_and_its_weight_and_the_fast_clients_are_measured(lab: Lab) -> None:
    plan = crowd.CrowdPlan(object_bytes=8 * MIB, connections=2, runs=1, seconds=0.1, warmup_s=0.01, slow=6, idle=10)
    found = crowd.run_crowd(lab, [node_kind()], plan)
    (row,) = found["rows"]
    assert (row["lost_connections"], row["faults"]) == (0, [])
    assert [(measured["unit"], measured["bar"]) for measured in found["measures"]] == [("MiB", 300.0), ("×", 1.5)]


def test_clients_beside_each_flood_are_measured(lab: Lab) -> None:
    plan = neighbours.NeighboursPlan(
        object_bytes=8 * MIB, connections=2, runs=1, seconds=0.1, warmup_s=0.01, flooding=(1,)
    )
    found = neighbours.run_neighbours(lab, [node_kind()], plan)
    assert [row["flood"] for row in found["rows"]] == [*neighbours.FLOODS, neighbours.HELLOS]
    assert all(row["sent_mb_s"] > 0 for row in found["rows"])
    assert {(measured["unit"], measured["sense"]) for measured in found["measures"]} == {("ms", "≤")}


def test_crowd_is_made_to_fit_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "raise_descriptor_limit", lambda: 1_800)
    fitting, note = crowd._fitting(crowd.CrowdPlan())
    assert (fitting.slow, fitting.idle) == (200, 800)
    assert "1800 descriptors" in note


def test_node_gets_the_settings_of_a_bench_as_toml(lab: Lab) -> None:
    server = start_node(lab, 9, settings=tls_settings(lab))
    with running(Kind("node", lambda _lab, _port: server, lambda: None, lambda: "", notes=""), lab, 9):
        assert server.tls_port is not None
        assert any('"listening"' in line for line in server.log.read_text().splitlines() if json.loads(line))


def test_every_case_of_tls_is_one_of_plain_hits_with_a_suite() -> None:
    sizes = {case.range_bytes for case in CASES}
    assert {case.range_bytes for case in tls.CASES} <= sizes
    assert all(case.tls for case in tls.CASES)
    assert not any(case.tls for case in HitsPlan().cases)
