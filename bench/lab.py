"""One laboratory: a directory, two cores, the truth, a certificate and the programs that run in it.

Owns: everything that a bench creates, and its removal; the origins. Must not know what is measured.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import process
from bench.content import Truth, write_stream

AUTHORITY = "bench.example"
ALLOWED = f"http://{AUTHORITY}"
"""What the node is told to allow: its origins here speak no TLS, whatever its clients speak."""
STORE_BYTES = 10 << 30
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class OriginLimits:
    """How slow the counting origin is; 0: no limit. Rates in 10^6 bit/s."""

    delay_ms: float = 0.0
    connection_mbps: float = 0.0
    total_mbps: float = 0.0


@dataclass(frozen=True, slots=True)
class CountingOrigin:
    """A running ``bench.origin``."""

    port: int

    def records(self) -> dict[str, dict[str, Any]]:
        """What it gave, by path: requests, body_bytes, duplicate_bytes, first_byte_at, spans."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/_stats")
            found: dict[str, dict[str, Any]] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return found

    def record(self, path: str) -> dict[str, Any]:
        """What it gave of one path; zeros if nothing."""
        nothing = {"requests": 0, "body_bytes": 0, "duplicate_bytes": 0, "first_byte_at": 0.0, "spans": []}
        return self.records().get(path, nothing)


class Lab:
    """A context: on exit every program started through it has ended and its directory is gone."""

    def __init__(self, *, seed: int, longest_bytes: int, node_config: Path | None = None) -> None:
        self.cores = sorted(os.sched_getaffinity(0))
        self.server_core = self.cores[0]
        self.client_core = self.cores[-1]
        self.node_config = node_config
        self.store_bytes = STORE_BYTES
        """How much a cache on disk may hold."""
        self.seed = seed
        self._longest_bytes = longest_bytes
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as made:
            self.work = Path(tempfile.mkdtemp(prefix="cacheserver-bench-"))
            made.callback(shutil.rmtree, self.work, ignore_errors=True)
            self.docroot = self.work / "docroot"
            self.docroot.mkdir()
            self.stream = self.work / "stream.bin"
            write_stream(self.stream, seed=self.seed, longest_bytes=self._longest_bytes)
            self.truth = Truth(self.stream)
            self.certificate, self.private_key = write_certificate(self.work)
            self._exit = made.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def write_objects(self, count: int, length_bytes: int) -> tuple[str, ...]:
        """Write objects 0 … count-1 as files below the docroot; their paths."""
        return tuple(self.truth.write_object(self.docroot, number, length_bytes) for number in range(count))

    def directory(self, name: str) -> Path:
        """A new empty directory for one program."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.work))

    def spawn(
        self,
        argv: list[str | Path],
        *,
        log: Path,
        core: int,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program that ends with the laboratory at the latest, on ``core``."""
        started = process.spawn(argv, cores=(core,), log=log, cwd=cwd, env=env)
        self._exit.callback(process.stop, started)
        return started

    @contextlib.contextmanager
    def origin(self, limits: OriginLimits, *, address: str = "127.0.0.1") -> Iterator[CountingOrigin]:
        """Run a counting origin on the client's core."""
        log = self.directory("origin") / "log"
        argv: list[str | Path] = [sys.executable, "-m", "bench.origin", "--stream", self.stream]
        argv += ["--delay-ms", str(limits.delay_ms), "--connection-mbps", str(limits.connection_mbps)]
        argv += ["--total-mbps", str(limits.total_mbps), "--address", address]
        started = self.spawn(argv, log=log, core=self.client_core, cwd=ROOT)
        try:
            yield CountingOrigin(_announced_port(started, log))
        finally:
            process.stop(started)


def _announced_port(started: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = log.read_text()
        if text.endswith("\n"):
            return int(json.loads(text.splitlines()[0])["port"])
        process.check_alive(started, log)
        time.sleep(0.01)
    raise RuntimeError(f"the origin says nothing:\n{process.log_end(log)}")


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed P-256 certificate for the test authority, valid for a day; paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, AUTHORITY)])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName(AUTHORITY), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    files[1].chmod(0o600)
    return files
