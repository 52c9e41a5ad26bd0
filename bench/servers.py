"""The servers under comparison: how each is configured, started and named.

Owns: their configurations, written for this machine's loopback and a directory of their own; nothing of an installed
service is touched. Peers other than nginx are in ``bench.peers``. Must not measure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import process
from bench.lab import AUTHORITY, ROOT, Lab

STORE_LIMIT = "10g"


@dataclass(frozen=True, slots=True)
class Running:
    """A started server. ``suffix`` is put behind every path that is asked of it."""

    name: str
    port: int
    popen: subprocess.Popen[bytes]
    log: Path
    suffix: str = ""
    tls_port: int | None = None
    admin_port: int | None = None

    def pids(self) -> list[int]:
        """All processes of this server."""
        return process.tree(self.popen.pid)


Starter = Callable[[Lab, int], Running]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of server. ``start`` takes the laboratory and the origin's port; ``caches`` False: no origin is used."""

    name: str
    start: Starter
    why_missing: Callable[[], str | None]
    """None when it can run here, else one line that says what is missing."""
    version: Callable[[], str]
    notes: str
    caches: bool = True


@contextlib.contextmanager
def running(kind: Kind, lab: Lab, origin_port: int) -> Iterator[Running]:
    """Run one server on the server's core until the end of the block."""
    started = kind.start(lab, origin_port)
    try:
        yield started
    finally:
        process.stop(started.popen)


def find_program(name: str) -> str | None:
    """Path of a program, the directories of system programs included."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def missing_program(name: str) -> Callable[[], str | None]:
    """A ``why_missing`` for a program."""
    return lambda: None if find_program(name) else f"{name} is not installed"


def program_version(name: str, *arguments: str) -> str:
    """First line that the program prints about its version."""
    done = subprocess.run([find_program(name) or name, *arguments], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return lines[0].strip() if lines else "unknown"


# -- nginx ------------------------------------------------------------------------------------------------------

_NGINX = """\
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile 16384;
pid {dir}/pid;
error_log {dir}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    types {{ }}
    default_type application/octet-stream;
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300;
    keepalive_requests 1000000000;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
{http}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{tls_port} ssl backlog=4096;
        server_name {authority};
{server}
    }}
}}
"""

_STATIC = """\
        root {docroot};
        add_header Cache-Control "public, max-age=604800";
"""

# What the lancache project deploys: 1 MiB slices, thread pool, one fetch per slice, its own lifetimes.
_SLICE_HTTP = """\
    aio threads;
    proxy_cache_path {dir}/cache levels=2:2 keys_zone=generic:64m inactive=3650d max_size={limit}
        loader_files=1000 loader_sleep=50ms loader_threshold=300ms use_temp_path=off;
"""
_SLICE_SERVER = """\
        location / {{
            slice 1m;
            proxy_cache generic;
            proxy_ignore_headers Expires Cache-Control;
            proxy_cache_valid 200 206 3650d;
            proxy_cache_valid 301 302 0;
            proxy_set_header Range $slice_range;
            proxy_cache_lock on;
            proxy_cache_lock_age 2m;
            proxy_cache_lock_timeout 1h;
            proxy_cache_use_stale error timeout invalid_header updating http_500 http_502 http_503 http_504;
            proxy_cache_revalidate on;
            proxy_max_temp_file_size 40960m;
            proxy_cache_key $host$uri$slice_range;
            proxy_http_version 1.1;
            proxy_redirect off;
            proxy_ignore_client_abort on;
            proxy_set_header Host $host;
            proxy_pass http://127.0.0.1:{origin_port};
        }}
"""


def _start_nginx(lab: Lab, name: str, core: int, http: str, server: str, origin_port: int = 0) -> Running:
    directory = lab.directory(name)
    port, tls_port = process.free_port(), process.free_port()
    values = {"dir": directory, "docroot": lab.docroot, "origin_port": origin_port, "limit": STORE_LIMIT}
    config = directory / "nginx.conf"
    config.write_text(
        _NGINX.format(
            dir=directory,
            user="root" if directory.stat().st_uid == 0 else "nobody",
            port=port,
            tls_port=tls_port,
            authority=AUTHORITY,
            certificate=lab.certificate,
            key=lab.private_key,
            http=http.format(**values),
            server=server.format(**values),
        )
    )
    log = directory / "log"
    program = find_program("nginx") or "nginx"
    popen = lab.spawn([program, "-p", directory, "-e", log, "-c", config], log=log, core=core)
    process.wait_for_port(port, popen, log)
    return Running(name, port, popen, log, tls_port=tls_port)


def start_file_origin(lab: Lab) -> Running:
    """nginx over the docroot on the client's core: the origin from which caches are filled at full speed."""
    return _start_nginx(lab, "file-origin", lab.client_core, "", _STATIC)


def _start_static(lab: Lab, origin_port: int) -> Running:
    return _start_nginx(lab, "nginx-static", lab.server_core, "", _STATIC)


def _start_slice(lab: Lab, origin_port: int) -> Running:
    return _start_nginx(lab, "nginx-slice", lab.server_core, _SLICE_HTTP, _SLICE_SERVER, origin_port)


# -- the node ---------------------------------------------------------------------------------------------------


def start_node(
    lab: Lab, origin_port: int, *, cache_dir: Path | None = None, on_host_form: bool = True, ready_timeout_s: float = 60
) -> Running:
    """Start the node with its defaults, one worker where it has workers; returns once it says that it listens."""
    directory = lab.directory("cacheserver")
    log = directory / "log"
    argv: list[str | Path] = [sys.executable, "-m", "cacheserver", "serve"]
    argv += ["--config", _node_config(lab, directory), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    argv += ["--cache-dir", cache_dir or directory / "cache", "--max-size", "10GiB"]
    argv += ["--allow", AUTHORITY, "--connect-to", f"{AUTHORITY}=127.0.0.1:{origin_port}"]
    popen = lab.spawn(argv, log=log, core=lab.server_core, cwd=ROOT)
    event = _listening_event(popen, log, ready_timeout_s)
    return Running(
        "cacheserver",
        _port_of(event["content"][0]),
        popen,
        log,
        suffix="" if on_host_form else f"?cacheHostOrigin={AUTHORITY}",
        tls_port=_port_of(event["tls"][0]) if event.get("tls") else None,
        admin_port=_port_of(event["admin"]) if event.get("admin") else None,
    )


def _node_config(lab: Lab, directory: Path) -> Path:
    """The configuration of the node: the caller's with the certificate put in, or one that asks for one worker."""
    config = directory / "node.toml"
    if lab.node_config is not None:
        text = lab.node_config.read_text()
        config.write_text(text.replace("@CERT@", str(lab.certificate)).replace("@KEY@", str(lab.private_key)))
        return config
    from cacheserver.web.options import ServerOptions

    config.write_text("[server]\nworkers = 1\n" if "workers" in ServerOptions.__struct_fields__ else "[server]\n")
    return config


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


NODE = Kind(
    "cacheserver",
    lambda lab, origin: start_node(lab, origin),
    _node_missing,
    _node_version,
    notes="defaults, one worker",
)
NGINX_STATIC = Kind(
    "nginx-static",
    _start_static,
    missing_program("nginx"),
    lambda: program_version("nginx", "-v"),
    caches=False,
    notes="files, sendfile, no thread pool: the practical limit",
)
NGINX_SLICE = Kind(
    "nginx-slice",
    _start_slice,
    missing_program("nginx"),
    lambda: program_version("nginx", "-v"),
    notes="proxy_cache with 1 MiB slices and aio threads, as lancache deploys it",
)
