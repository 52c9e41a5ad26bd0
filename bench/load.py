"""The load generator: keep-alive connections that ask for random ranges and throw the bodies away.

A process of its own, pinned to one core. Over plain HTTP bodies are discarded inside the kernel (``MSG_TRUNC``), so
that the client's core does far less than the server's; over TLS they must be decrypted, and there the client often is
the brake. Every result says how busy the client was: above ``CLIENT_BOUND`` the figure is the client's, not the
server's. The whole first answer of each connection is compared with the truth (``bench.first_answer``), before
anything is measured; of the others status and length are looked at here, and samples are compared by ``bench.check``.
Run as ``python -m bench.load`` with a job as JSON on standard input; the result is JSON on standard output.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import process
from bench.content import Truth
from bench.first_answer import compare_first
from bench.load_drivers import Driver, PlainDriver, Tally, TlsDriver

CLIENT_BOUND = 0.95
PREBUILT_REQUESTS = 8192
ROOT = Path(__file__).resolve().parent.parent
_ONE_CIPHER = """\
openssl_conf = start
[start]
ssl_conf = ssl
[ssl]
system_default = only
[only]
Ciphersuites = {cipher}
"""
"""Python's ``ssl`` cannot choose among the suites of TLS 1.3; the configuration that OpenSSL reads at its start can."""


@dataclass(frozen=True, slots=True)
class LoadJob:
    """What one run does. ``range_bytes`` 0 asks for whole objects; ``server_pids`` are read for their CPU time."""

    port: int
    authority: str
    targets: tuple[str, ...]
    object_bytes: int
    range_bytes: int
    connections: int
    seconds: float
    warmup_s: float = 0.2
    seed: int = 1
    tls: bool = False
    cipher: str = ""
    """The one TLS 1.3 cipher suite to offer; empty: all."""
    stream: str = ""
    """The file of the truth, with which the first answer of each connection is compared; empty: they are not."""
    nice: int = 0
    cores: tuple[int, ...] = ()
    server_core: int | None = None
    server_pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one run saw between the end of its warm-up and its end."""

    wall_s: float
    requests: int
    body_bytes: int
    errors: int
    first_fault: str
    first_byte_p50_s: float | None
    first_byte_p99_s: float | None
    """None where no answer began inside the run."""
    client_cpu_s: float
    server_cpu_s: float
    server_core_busy_s: float
    connections: int
    """Connections opened in all."""
    first_answers_checked: int
    cipher: str

    @property
    def requests_per_s(self) -> float:
        """Whole answers per second."""
        return self.requests / self.wall_s

    @property
    def bytes_per_s(self) -> float:
        """Body bytes per second, those of unfinished answers included."""
        return self.body_bytes / self.wall_s

    @property
    def client_share(self) -> float:
        """Share of its core that the client used; above ``CLIENT_BOUND`` the client was the brake."""
        return self.client_cpu_s / self.wall_s

    @property
    def server_share(self) -> float:
        """Share of one core that the server used."""
        return self.server_cpu_s / self.wall_s

    @property
    def cpu_s_per_gb(self) -> float:
        """Server CPU seconds per 10^9 body bytes."""
        return self.server_cpu_s / (self.body_bytes / 1e9) if self.body_bytes else 0.0


def build_requests(job: LoadJob) -> list[bytes]:
    """The request heads of one run: random aligned ranges over all targets, the same for every server and seed."""
    generator = random.Random(job.seed)
    requests = []
    for _ in range(PREBUILT_REQUESTS if job.range_bytes else len(job.targets)):
        target = generator.choice(job.targets)
        head = f"GET {target} HTTP/1.1\r\nHost: {job.authority}\r\n"
        if job.range_bytes:
            first = generator.randrange(job.object_bytes // job.range_bytes) * job.range_bytes
            head += f"Range: bytes={first}-{first + job.range_bytes - 1}\r\n"
        requests.append(f"{head}\r\n".encode())
    return requests


def percentile(ordered: list[float], share: float) -> float:
    """The value that ``share`` of the ascending values do not exceed; 0 without values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def measure(job: LoadJob) -> LoadResult:
    """Do one run in this process."""
    if job.cores:
        os.sched_setaffinity(0, job.cores)
    os.nice(job.nice)
    with _driver(job) as driver:
        driver.open(job.connections)
        driver.run_until(time.perf_counter() + job.warmup_s)
        driver.tally = Tally()
        before = _clocks(job)
        driver.run_until(before[0] + job.seconds)
        wall_s, client_s, server_s, busy_s = (end - start for start, end in zip(before, _clocks(job), strict=True))
        tally = driver.tally
    latencies = sorted(tally.first_byte_s)
    return LoadResult(
        wall_s=wall_s,
        requests=tally.requests,
        body_bytes=tally.body_bytes,
        errors=tally.errors,
        first_fault=tally.first_fault,
        first_byte_p50_s=percentile(latencies, 0.50) if latencies else None,
        first_byte_p99_s=percentile(latencies, 0.99) if latencies else None,
        client_cpu_s=client_s,
        server_cpu_s=server_s,
        server_core_busy_s=busy_s,
        connections=driver.opened,
        first_answers_checked=driver.opened if job.stream else 0,
        cipher=driver.cipher if isinstance(driver, TlsDriver) else "",
    )


def _driver(job: LoadJob) -> Driver:
    truth = Truth(Path(job.stream)) if job.stream else None
    return (TlsDriver if job.tls else PlainDriver)(
        port=job.port,
        authority=job.authority,
        requests=build_requests(job),
        expected_status=b"206" if job.range_bytes else b"200",
        expected_bytes=job.range_bytes or job.object_bytes,
        check_first=None if truth is None else lambda sock, request: compare_first(sock, request, truth),
    )


def _clocks(job: LoadJob) -> tuple[float, float, float, float]:
    """Wall, own CPU, server CPU and busy seconds of the server's core, all at about the same moment."""
    busy = 0.0 if job.server_core is None else process.core_busy_seconds(job.server_core)
    return time.perf_counter(), time.process_time(), process.cpu_seconds(job.server_pids), busy


def run_load(job: LoadJob) -> LoadResult:
    """Do one run in a process of its own; RuntimeError when that process fails or does not end."""
    with tempfile.NamedTemporaryFile("w", prefix="cacheserver-bench-", suffix=".cnf") as file:
        file.write(_ONE_CIPHER.format(cipher=job.cipher))
        file.flush()
        limit_s = job.seconds + job.warmup_s + 60
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.load"],
                input=json.dumps(asdict(job)),
                capture_output=True,
                text=True,
                cwd=ROOT,
                env={**os.environ, "OPENSSL_CONF": file.name} if job.cipher else None,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"load generator has not ended after {limit_s:.0f} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"load generator failed:\n{done.stderr}")
    return LoadResult(**json.loads(done.stdout))


def main() -> None:
    """Read a job from standard input, do it, print the result."""
    fields = json.load(sys.stdin)
    for name in ("targets", "server_pids", "cores"):
        fields[name] = tuple(fields[name])
    process.raise_descriptor_limit()
    json.dump(asdict(measure(LoadJob(**fields))), sys.stdout)


if __name__ == "__main__":
    main()
