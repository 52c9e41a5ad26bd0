"""The node under test: started with its defaults, or with settings that a bench wants.

Owns: its configuration file and waiting until it says that it listens. Must not measure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import process
from bench.lab import ALLOWED, AUTHORITY, ROOT, Lab
from bench.servers import NODE, Kind, Running

Settings = Mapping[str, Mapping[str, Any]]
"""Tables of the node's TOML and what is set in them."""


def start_node(
    lab: Lab,
    origin_port: int,
    *,
    settings: Settings | None = None,
    cache_dir: Path | None = None,
    module: str = "cacheserver",
    env: dict[str, str] | None = None,
    ready_timeout_s: float = 60,
    origin_address: str = "127.0.0.1",
) -> Running:
    """Start the node with its defaults; returns once it says that it listens.

    ``module``: what ``python -m`` runs, with ``env`` over the environment. RuntimeError with the end of its log when it
    does not come up.
    """
    directory = lab.directory(NODE)
    log, store = directory / "log", cache_dir or directory / "cache"
    argv: list[str | Path] = [sys.executable, "-m", module, "serve"]
    argv += ["--config", _write_config(lab, directory, settings or {})]
    argv += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    argv += ["--cache-dir", store, "--max-size", f"{lab.store_bytes >> 20}MiB"]
    argv += ["--allow", ALLOWED, "--connect-to", f"{AUTHORITY}={origin_address}:{origin_port}"]
    popen = lab.spawn(argv, log=log, core=lab.server_core, cwd=ROOT, env=env)
    event = _listening_event(popen, log, ready_timeout_s)
    return Running(
        NODE,
        _port_of(event["content"][0]),
        popen,
        log,
        tls_port=_port_of(event["tls"][0]) if event.get("tls") else None,
        admin_port=_port_of(event["admin"]) if event.get("admin") else None,
        store=store,
    )


def node_kind(settings: Settings | None = None, *, notes: str = "defaults") -> Kind:
    """The node with some settings of its own."""

    def start(lab: Lab, origin_port: int) -> Running:
        return start_node(lab, origin_port, settings=settings)

    return Kind(NODE, start, _node_missing, _node_version, notes=notes)


def with_settings(kinds: list[Kind], settings: Settings) -> list[Kind]:
    """The same kinds, the node among them with these settings."""
    return [node_kind(settings, notes=kind.notes) if kind.name == NODE else kind for kind in kinds]


def tls_settings(lab: Lab) -> Settings:
    """A TLS listener with the laboratory's certificate, the same that nginx has."""
    files = {"certificate": str(lab.certificate), "key": str(lab.private_key)}
    return {"server": {"listen_tls": ["127.0.0.1:0"]}, "tls": files}


def admin_get(server: Running, path: str) -> bytes:
    """A page of the node's admin listener; RuntimeError where it has none."""
    if server.admin_port is None:
        raise RuntimeError("the node has no admin listener")
    with urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}{path}", timeout=30) as answer:
        body: bytes = answer.read()
    return body


def status(server: Running) -> dict[str, Any]:
    """What the node says of itself at ``/api/v1/status``."""
    found: dict[str, Any] = json.loads(admin_get(server, "/api/v1/status"))
    return found


def metric(server: Running, name: str) -> float:
    """Sum over all series of ``/metrics`` whose name (and labels) begin with ``name``."""
    lines = admin_get(server, "/metrics").decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def _write_config(lab: Lab, directory: Path, settings: Settings) -> Path:
    """The node's configuration: the caller's file with the certificate put in, and this bench's settings over it."""
    merged: dict[str, dict[str, Any]] = {}
    given = lab.node_config.read_text() if lab.node_config is not None else ""
    given = given.replace("@CERT@", str(lab.certificate)).replace("@KEY@", str(lab.private_key))
    for tables in (tomllib.loads(given), settings):
        for name, values in tables.items():
            merged.setdefault(name, {}).update(values)
    config = directory / "node.toml"
    config.write_text("".join(f"{json.dumps(name)} = {_toml(values)}\n" for name, values in merged.items()))
    return config


def _toml(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _listening_event(popen: subprocess.Popen[bytes], log: Path, timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and event.get("event") == "listening":
                    return event
        process.check_alive(popen, log)
        time.sleep(0.005)
    raise RuntimeError(f"the node does not listen after {timeout_s:.0f} s:\n{process.log_end(log)}")


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def _node_missing() -> str | None:
    return None if importlib.util.find_spec("cacheserver.__main__") else "cacheserver has no __main__"


def _node_version() -> str:
    import cacheserver

    return f"cacheserver {cacheserver.__version__} on Python {sys.version.split()[0]}"
