"""The firewall list: every host of every service, with the ports that its rule implies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cacheserver.cli import main as cli
from cacheserver.client_config.origin_ports import OriginPorts, origin_ports
from cacheserver.core.request.service import Service
from cacheserver.settings.shipped import load_shipped_services

CONFIG = """
allow = ["plain.example"]
[trust]
edge_cdp = true
[services.mine]
hosts = ["a.example", "*.b.example"]
scheme = "https"
port = 8443
sources = ["cachehost+http://parent.example:80"]
"""


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.run(["firewall-list", "--json", *arguments]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_every_shipped_service_and_host_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    entries = {entry["service"]: entry for entry in listed(capsys)["outgoing"]}
    for service in load_shipped_services():
        assert entries[service.name]["hosts"] == list(service.hosts)
    assert entries["windows-update"]["ports"] == [80]
    assert entries["intune"]["ports"] == [80, 443]
    assert entries["delivery-optimization-service"]["ports"] == [443]


def test_own_services_and_trust_services_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    entries = {entry["service"]: entry for entry in listed(capsys, "--config", str(path))["outgoing"]}
    assert entries["mine"]["hosts"] == ["a.example", "*.b.example", "parent.example"]
    assert entries["mine"]["ports"] == [8443]
    assert entries["edge-cdp"]["hosts"] == ["msedge.api.cdp.microsoft.com"]
    assert any(entry["hosts"] == ["plain.example"] for entry in entries.values())
    assert "content-policy" not in entries


def test_ports_of_the_whole_system_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    ports = {(entry["protocol"], entry["port"]) for entry in listed(capsys)["incoming"]}
    assert ports == {("tcp", 80), ("tcp", 443), ("tcp", 7680), ("udp", 3544)}


def test_table_has_one_line_a_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["firewall-list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "tcp 80,443  dl.delivery.mp.microsoft.com  (windows-update)" in lines
    hosts = sum(len(service.hosts) for service in load_shipped_services())
    assert sum(line.endswith(")") and line.startswith("tcp") for line in lines) == hosts


@pytest.mark.parametrize(
    ("service", "ports"),
    [
        (Service(name="x", hosts=("h.example",), scheme="http"), OriginPorts((80,))),
        (Service(name="x", hosts=("h.example",), scheme="https"), OriginPorts((443,))),
        (Service(name="x", hosts=("h.example",), port=81), OriginPorts((81,))),
        (Service(name="x", hosts=("h.example",)), OriginPorts((80,), (443,))),
        (Service(name="intune", hosts=("h.example",)), OriginPorts((80, 443))),
        (Service(name="intune", hosts=("h.example",), own=True), OriginPorts((80,), (443,))),
    ],
)
def test_ports_follow_the_rule_of_the_service(service: Service, ports: OriginPorts) -> None:
    assert origin_ports(service) == ports
