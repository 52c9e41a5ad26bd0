"""https origins: always verified, by the system's authorities or by the operator's bundle, and never otherwise."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.client import Response
from tests.support.content import Content, blob
from tests.support.flow import PATIENCE_S
from tests.support.ground import FRESH
from tests.support.node import running_node
from tests.support.origin import Origin

HOST = "secure.example.test"
BODY = blob(11, 5_000)
RETRY = "[fill]\ntries = 1\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def asked(
    authority: Authority,
    folder: Path,
    *,
    ca_file: str,
    name: str = HOST,
    days: tuple[int, int] = (-1, 30),
    self_signed: bool = False,
) -> tuple[Response, int, float]:
    """A node's answer for an origin with such a certificate, requests that reached it, refusals by certificate."""
    context = authority.server_context(name=name, days=days, self_signed=self_signed)
    async with Origin(tls=context) as origin:
        origin.add("/b", Content(BODY, headers=FRESH))
        config = f"{RETRY}[upstream]\nca_file = '{ca_file}'\n[services.secure]\nhosts = ['https://{HOST}']\n"
        async with running_node(folder / "node", connect_to={HOST: origin.address}, config=config) as node:
            response = await node.get("/b", host=HOST)
            metrics = await node.metrics()
            refused = [
                sample.value
                for sample in metrics.samples
                if sample.name == "cacheserver_upstream_requests_total" and sample.labels["result"] == "untrusted"
            ]
            return response, len(origin.requests), sum(refused)


async def test_an_origin_under_the_operators_authority_is_served(authority: Authority, tmp_path: Path) -> None:
    response, requests, refused = await asked(authority, tmp_path, ca_file=authority.ca_file)
    assert (response.status, response.body == BODY) == (200, True)
    assert (requests > 0, refused) == (True, 0)


@pytest.mark.parametrize(
    ("days", "name", "self_signed", "words"),
    [
        ((-10, -1), HOST, False, "expired"),
        ((-1, 30), "other.example.test", False, "Hostname mismatch"),
        ((-1, 30), HOST, True, "self-signed"),
    ],
)
async def test_a_certificate_with_one_fault_is_refused_before_anything_is_asked(
    days: tuple[int, int], name: str, self_signed: bool, words: str, authority: Authority, tmp_path: Path
) -> None:
    response, requests, refused = await asked(
        authority, tmp_path, ca_file=authority.ca_file, days=days, name=name, self_signed=self_signed
    )
    assert response.status == 502
    assert words.lower() in response.body.decode().lower()
    assert (requests, refused) == (0, 1)


async def test_an_authority_that_nobody_named_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    response, requests, refused = await asked(authority, tmp_path, ca_file="")
    assert response.status == 502
    assert b"certificate is refused" in response.body
    assert (requests, refused) == (0, 1)


async def test_a_bundle_without_certificates_stops_the_start_with_one_line(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("nothing\n")
    config = tmp_path / "node.toml"
    config.write_text(f"[upstream]\nca_file = '{bundle}'\n")
    command = [sys.executable, "-m", "cacheserver", "serve", "--config", str(config), "--listen", "127.0.0.1:0"]
    command += ["--admin-listen", "127.0.0.1:0", "--cache-dir", str(tmp_path / "cache")]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=PATIENCE_S, check=False, text=True
    )
    assert done.returncode == 2
    assert done.stderr == f"cacheserver: error: {bundle}: upstream.ca_file: cannot be used as a PEM bundle\n"
