"""A local nginx that serves real files, and counts what it served.

Owns the process, its configuration and its access log. Nothing of an installed nginx service is read, started or
changed. nginx gets a socket that listens already, so there is no port to guess and no start to wait for.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.client import fetch

_MARK = "/mark"
_CONFIG = """\
daemon off;
user {user};
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log warn;
events {{ worker_connections 512; }}
http {{
    log_format counted escape=json '{{"method":"$request_method","path":"$uri","status":$status,'
                                   '"body_bytes":$body_bytes_sent,"range":"$http_range"}}';
    access_log {work}/access.log counted;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    keepalive_timeout 300;
    keepalive_requests 100000;
    server_tokens off;
    types {{ text/html html; }}
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        index index.html;
        location / {{ expires {expires}; limit_rate {rate}; }}
        location = {mark} {{ return 204; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Served:
    """One answer of the origin."""

    method: str
    path: str
    status: int
    body_bytes: int
    range: str


class NginxOrigin:
    """A running nginx; ``root`` is the directory that it serves."""

    def __init__(self, *, root: Path, work: Path, port: int) -> None:
        self.root = root
        self.address = f"127.0.0.1:{port}"
        self._endpoint = ("127.0.0.1", port)
        self._log = work / "access.log"

    async def served(self) -> list[Served]:
        """Every answer so far, also one whose last byte has only just left.

        nginx writes a line when it has let go of an answer, and has one process: once it has answered a request that
        came later, the lines of the earlier ones are there.
        """
        for _ in range(2):
            await fetch(self._endpoint, _MARK)
        lines = [Served(**json.loads(line)) for line in self._log.read_text().splitlines()]
        return [line for line in lines if line.path != _MARK]


def nginx_program() -> str | None:
    """The nginx of this machine; Debian keeps it out of the PATH of users."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@asynccontextmanager
async def running_nginx(root: Path, work: Path, *, rate: str = "0", expires: str = "1d") -> AsyncIterator[NginxOrigin]:
    """An nginx that serves ``root`` at ``rate`` per connection; ended by its process, never by its name."""
    program = nginx_program()
    assert program is not None, "nginx is not installed"
    work.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port = listening.getsockname()[1]
        user = pwd.getpwuid(os.geteuid()).pw_name
        facts = {"port": port, "user": user, "rate": rate, "expires": expires}
        config = _CONFIG.format(work=work, root=root, **facts, mark=_MARK)
        (work / "nginx.conf").write_text(config)
        process = await asyncio.create_subprocess_exec(
            program,
            *("-p", str(work), "-e", str(work / "error.log"), "-c", str(work / "nginx.conf")),
            env={"NGINX": f"{listening.fileno()};"},
            pass_fds=(listening.fileno(),),
            stderr=asyncio.subprocess.DEVNULL,
        )
    try:
        yield NginxOrigin(root=root, work=work, port=port)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
