"""Client settings: every format as it was reviewed, and read by the programs that it is for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cacheserver.cli import main as cli
from cacheserver.cli.client_config import client_config_command
from cacheserver.client_config.formats import FORMATS, POLICY_FORMATS
from cacheserver.client_config.policy import ClientPolicy, cache_hosts
from cacheserver.core.errors import ConfigError

GOLDEN = Path(__file__).parent / "golden"
HOSTS = ("cache.example.com", "192.0.2.7")
ARGUMENTS = ["client-config", "--host", HOSTS[0], "--host", HOSTS[1], "--tls", "--format"]
SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"


def printed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert cli.run(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_what_was_reviewed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    golden = (GOLDEN / f"{name}.txt").read_bytes().decode()
    arguments = ARGUMENTS if name != "linux-agent" else ["client-config", "--host", HOSTS[0], "--format"]
    assert printed(capsys, [*arguments, name]) == golden


def test_the_command_line_knows_every_format() -> None:
    (option,) = [option for option in client_config_command.params if option.name == "name"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == tuple(FORMATS)


@pytest.mark.parametrize("name", ["reg", "gpo", "powershell", "dhcp-windows"])
def test_formats_for_windows_end_lines_as_windows_does(name: str) -> None:
    text = FORMATS[name](ClientPolicy(hosts=HOSTS))
    assert text.replace("\r\n", "").count("\n") == 0
    assert text.endswith("\r\n")


@pytest.mark.parametrize("name", POLICY_FORMATS)
def test_policy_formats_carry_every_value(name: str) -> None:
    policy = ClientPolicy(
        hosts=HOSTS, fallback_foreground_s=11, fallback_background_s=0, not_on_vpn=True, download_mode=99
    )
    text = FORMATS[name](policy)
    for value, _ in policy.values():
        assert value in text
    assert ",".join(HOSTS) in text
    # 99 in the notation of each format
    assert re.search(r"DODownloadMode\W+(?:dword:00000063|DWORD:99|.*99)", text, re.DOTALL)


@pytest.mark.parametrize("name", POLICY_FORMATS)
def test_policy_that_points_to_dhcp_names_no_host(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, ["client-config", "--from-dhcp", "--format", name])
    assert "DOCacheHostSource" in text
    assert not re.search(r"DOCacheHost\b", text)


def test_json_formats_are_json() -> None:
    policy = ClientPolicy(hosts=HOSTS)
    assert json.loads(FORMATS["linux-agent"](ClientPolicy(hosts=HOSTS[:1], fallback_foreground_s=7))) == {
        "DOCacheHost": "cache.example.com",
        "DODelayCacheServerFallbackForeground": 7,
        "DODelayCacheServerFallbackBackground": 60,
    }
    profile = json.loads(FORMATS["intune"](policy))
    values = {setting["omaUri"].rpartition("/")[2]: setting["value"] for setting in profile["omaSettings"]}
    assert values == dict(policy.values())


@pytest.mark.parametrize(
    ("hosts", "port", "expected"),
    [
        (("Cache.Example.COM.",), 80, ("cache.example.com",)),
        (("a.example", "192.0.2.7"), 8080, ("a.example:8080", "192.0.2.7:8080")),
        (("a.example:81", "b.example"), 80, ("a.example:81", "b.example")),
        (("a.example:80",), 8080, ("a.example",)),
    ],
)
def test_hosts_are_written_as_clients_read_them(hosts: tuple[str, ...], port: int, expected: tuple[str, ...]) -> None:
    assert cache_hosts(hosts, port=port) == expected


@pytest.mark.parametrize(
    ("hosts", "part"),
    [
        (("http://a.example",), "http://a.example"),
        (("a.example/x",), "not a valid name"),
        (("a,b",), "not a valid name"),
        (('a"; evil',), "not a valid name"),
        (("[2001:db8::1]",), "names and IPv4"),
        (("0x7f.1",), "dotted quad"),
        (("a.example", "A.example"), "twice"),
        (tuple(f"{'x' * 50}{number}.example" for number in range(5)), "255 bytes"),
    ],
)
def test_hosts_that_clients_cannot_use_are_refused(hosts: tuple[str, ...], part: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(part)):
        cache_hosts(hosts)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "reg"],
        ["--format", "reg", "--host", "a.example", "--from-dhcp"],
        ["--format", "dnsmasq", "--from-dhcp"],
        ["--format", "nonsense", "--host", "a.example"],
        ["--format", "reg", "--host", "a b"],
        ["--format", "linux-agent", "--host", "a.example", "--host", "b.example"],
        ["--format", "linux-agent", "--host", "a.example", "--not-on-vpn"],
        ["--format", "linux-agent", "--host", "a.example", "--download-mode", "99"],
        *(
            ["--format", name, "--host", "a.example", *more]
            for name in FORMATS
            if name.startswith(("dhcp", "dnsmasq"))
            for more in (["--fallback-foreground", "1"], ["--fallback-background", "1"], ["--not-on-vpn"])
        ),
        ["--format", "reg", "--host", "a.example", "--port", "0"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["client-config", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


# -- the programs themselves ----------------------------------------------------------------------------------------


def program(name: str) -> str:
    path = shutil.which(name, path=SBIN)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def accepts(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("hosts", [HOSTS, ("192.0.2.7",), ("cache.example.com:8080",)])
def test_dnsmasq_takes_its_lines(hosts: tuple[str, ...], tmp_path: Path) -> None:
    dnsmasq = program("dnsmasq")
    (tmp_path / "dnsmasq.conf").write_text(FORMATS["dnsmasq"](ClientPolicy(hosts=hosts, tls=True)))
    accepts([dnsmasq, "--test", f"--conf-file={tmp_path / 'dnsmasq.conf'}"])


def test_kea_takes_its_options(tmp_path: Path) -> None:
    kea = program("kea-dhcp4")
    (tmp_path / "kea.conf").write_text(FORMATS["dhcp-kea"](ClientPolicy(hosts=HOSTS, tls=True)))
    accepts([kea, "-t", str(tmp_path / "kea.conf")])


def test_isc_dhcpd_takes_its_lines(tmp_path: Path) -> None:
    dhcpd = program("dhcpd")
    text = FORMATS["dhcp-isc"](ClientPolicy(hosts=HOSTS, tls=True))
    (tmp_path / "dhcpd.conf").write_text(text + "subnet 192.0.2.0 netmask 255.255.255.0 {}\n")
    accepts([dhcpd, "-t", "-cf", str(tmp_path / "dhcpd.conf")])


# -- on the wire ----------------------------------------------------------------------------------------------------

SUBNET = "ping-check false;\nsubnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.50 192.0.2.60; }\n"


def kea_served(text: str) -> str:
    """The rendered members inside a configuration that a server can run with."""
    config = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("//")))
    config["Dhcp4"] |= {
        "interfaces-config": {"interfaces": ["server0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [{"subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.50 - 192.0.2.60"}], "id": 1}],
    }
    return json.dumps(config)


@pytest.mark.parametrize("hosts", [HOSTS, ("192.0.2.7",)], ids=["two", "address"])
@pytest.mark.parametrize(("name", "server"), [("dnsmasq", "dnsmasq"), ("dhcp-isc", "dhcpd"), ("dhcp-kea", "kea-dhcp4")])
def test_clients_get_the_host_list_in_ascii(name: str, server: str, hosts: tuple[str, ...], tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("a network namespace needs root")
    module = "tests.client_config.dhcp_wire"
    command = ["unshare", "--net", sys.executable, "-m", module, program(server), str(tmp_path)]
    text = FORMATS[name](ClientPolicy(hosts=hosts))
    text = kea_served(text) if name == "dhcp-kea" else text + (SUBNET if name == "dhcp-isc" else "")
    (tmp_path / "server.conf").write_text(text)
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("no network namespaces here")
    log = (tmp_path / "server.log").read_text() if (tmp_path / "server.log").exists() else ""
    assert done.stdout.rstrip("\n\0") == ",".join(hosts), done.stderr + log
