"""The doctor where nothing is wrong: every line is ok, as an operator runs it and in each of its forms."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from cacheserver.doctor.known_urls import TEST_URLS
from tests.doctor.lab import NAME, Lab, content_of
from tests.support.node import _ROOT

pytestmark = pytest.mark.asyncio(loop_scope="module")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


async def doctor(lab: Lab, *arguments: str, config: str | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    path = lab.folder / "command.toml"
    path.write_text(lab.config() if config is None else config)
    env = {key: value for key, value in os.environ.items() if key.lower() not in _PROXIES}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cacheserver", "doctor", "--config", str(path), *arguments),
        env={**env, "PYTHONPATH": str(_ROOT), "PYTHONWARNINGS": "default"},
        cwd=lab.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def client_trust(lab: Lab) -> tuple[str, ...]:
    return ("--name", NAME, "--ca-file", lab.authority.ca_file)


async def test_everything_is_ok_in_a_healthy_lab(lab: Lab) -> None:
    code, out, err = await doctor(lab, "--json", *client_trust(lab), "--peer", f"127.0.0.1:{lab.origin.port}")
    report = json.loads(out)
    # How fast a shared machine writes is not for this test to say: a warning there is all that may be found.
    assert {check["name"] for check in report["checks"] if check["level"] != "ok"} <= {"disk-speed"}
    assert (code, err) == (0, "")
    assert report["counts"]["fail"] == 0
    assert report["counts"]["ok"] > 40
    names = {check["name"] for check in report["checks"]}
    assert names >= {
        "config", "port", "node", "descriptors", "disk-owner", "disk-space", "disk-speed", "disk-errors", "clock",
        "proxy", "dns", "tcp", "loop", "portal", "range", "endpoint", "addresses", "certificate", "names", "handshake",
        "test-url", "firewall", "peer", "teredo",
    }  # fmt: skip


async def test_every_test_url_is_asked_over_both_schemes_through_the_node(lab: Lab) -> None:
    _code, out, _err = await doctor(lab, "--mcc", "--json", *client_trust(lab))
    asked = [check for check in json.loads(out)["checks"] if check["name"] == "test-url"]
    assert len(asked) == 6
    assert sum("over https" in check["checked"] for check in asked) == 3
    found = " ".join(check["found"] for check in asked)
    assert all(text in found for text in ("image/gif, 969710 bytes", "302341 bytes", "bytes 0-9/25006511"))


@pytest.mark.parametrize(
    ("flag", "there", "absent"),
    [
        ("--health", {"disk-space", "clock", "range"}, {"test-url", "certificate", "peer"}),
        ("--mcc", {"test-url", "certificate", "node"}, {"disk-space", "peer", "clock"}),
        ("--p2p", {"peer", "teredo", "endpoint"}, {"disk-space", "test-url", "port"}),
    ],
)
async def test_groups_are_run_alone(flag: str, there: set[str], absent: set[str], lab: Lab) -> None:
    code, out, _err = await doctor(lab, flag, "--json", *client_trust(lab))
    names = {check["name"] for check in json.loads(out)["checks"]}
    assert code == 0
    assert there <= names
    assert not absent & names


async def test_lines_say_what_was_checked_found_and_is_to_be_done(lab: Lab) -> None:
    code, out, _err = await doctor(lab, "--mcc")
    lines = out.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "fail  ")) for line in lines[:-1])
    assert all(line.isprintable() for line in lines)
    assert lines[-1].endswith(" 0 failures")
    # Without --ca-file this machine trusts no certificate of the lab: a warning, which is no failure.
    assert [line.split()[1] for line in lines if line.startswith("warn")] == ["handshake:"]
    assert code == 0


async def test_node_can_be_asked_by_name_as_clients_do(lab: Lab) -> None:
    settings = lab.settings(connect_to={NAME: f"127.0.0.1:{lab.tls_port}"})
    checks = await lab.diagnosed(settings, lab.options(nodes=(f"https://{NAME}",)), ("mcc",))
    asked = [check for check in checks if check.name == "test-url"]
    assert [check.level for check in asked] == ["ok"] * 3, asked
    assert all(f"https from {NAME}:443" in check.checked for check in asked)
    assert not {check.name for check in checks} & {"port", "node", "certificate", "disk-space"}


async def test_services_can_be_chosen(lab: Lab) -> None:
    checks = await lab.diagnosed(options=lab.options(services=("xbox",)), groups=("health",))
    assert {check.checked.split(":")[0] for check in checks if check.name == "tcp"} == {"xbox"}
    code, _out, err = await doctor(lab, "--service", "nonsense")
    assert code == 2
    assert "no service nonsense" in err


async def test_own_url_can_be_asked_for_ranges(lab: Lab) -> None:
    lab.origin.add("/own.bin", content_of(TEST_URLS[0], length_bytes=100))
    url = f"http://127.0.0.1:{lab.origin.port}/own.bin"
    checks = await lab.diagnosed(options=lab.options(range_urls=(url,)), groups=("health",))
    assert [check.level for check in checks if "own URL" in check.checked] == ["ok"]


async def test_bundle_holds_everything_and_no_secret(lab: Lab, tmp_path: Path) -> None:
    token, query = "super-secret-admin-token-0123456789", "P4=c2lnbmF0dXJl"
    log = tmp_path / "events.log"
    log.write_text(f'{{"event":"x","url":"http://h/p?{query}"}}\nAuthorization: Bearer {token}\nplain line\n')
    key_file = Path(lab.leaf)
    config = lab.config(more=f"# note: {token}\n").replace("[admin]\n", f"[admin]\ntoken = '{token}'\n")
    bundle = tmp_path / "b.tar.gz"
    arguments = ("--bundle", str(bundle), "--log", str(log), "--log", str(key_file), *client_trust(lab))
    code, _out, err = await doctor(lab, *arguments, config=config)
    assert f"wrote {bundle}" in err
    assert code == 0, _out
    assert bundle.stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundle) as archive:
        texts = {
            member.name.partition("/")[2]: file.read().decode()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
    wanted = {"checks.json", "checks.txt", "config.json", "settings.json", "system.json", "status.json", "metrics.txt"}
    assert wanted <= texts.keys()
    everything = "\n".join(texts.values())
    for secret in (token, query, "PRIVATE KEY", *key_file.read_text().splitlines()[1:3]):
        assert secret not in everything
    assert "plain line" in texts["logs/0-events.log.txt"]
    assert json.loads(texts["config.json"])["admin"]["token"] == "(removed)"
    assert json.loads(texts["config.json"])["upstream"]["connect_to"]
    assert "cacheserver_requests_total" in texts["metrics.txt"]
    assert json.loads(texts["status.json"])["version"]
    code, _out, err = await doctor(lab, "--p2p", "--bundle", str(bundle))
    assert code == 2
    assert "is there already" in err
