"""The container as the steps of the booted run see it: settings, units, downloads, the journal, Prometheus.

Owns what several steps need. Must not decide what is right, but for the bytes of a download.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tests.acceptance.container import Container, ContainerFailed

HOST: Final = "files.example"
OTHER_HOST: Final = "more.example"
CONFIG: Final = "/etc/cacheserver/cacheserver.toml"
TLS_DIR: Final = "/etc/cacheserver/tls"
SETTINGS: Final = """\
allow = [{allow}]

[server]
listen = ["0.0.0.0:80", "[::]:80"]
listen_tls = ["0.0.0.0:443", "[::]:443"]

[tls]
certificate = "/etc/cacheserver/tls/node.pem"
key = "/etc/cacheserver/tls/node.key"

[upstream.connect_to]
"files.example" = "127.0.0.1:9000"
"more.example" = "127.0.0.1:9000"
"""


class Scene:
    """The container and what the steps know of it."""

    def __init__(self, container: Container, *, source: str, wheels: str) -> None:
        self.container = container
        self.install = f"{source}/install.sh install --wheels {wheels}"
        self.uninstall = f"{source}/install.sh uninstall"
        self.source = source
        self.digest = ""

    def show(self, name: str, unit: str = "cacheserver.service") -> str:
        """One property of a unit."""
        return self.container.run(f"systemctl show --property={name} --value {unit}")

    def expect(self, name: str, wanted: str) -> None:
        """ContainerFailed where a property of the service is not ``wanted``."""
        if (got := self.show(name)) != wanted:
            raise ContainerFailed(f"{name} is {got!r}, not {wanted!r}")

    def use(self, *hosts: str) -> None:
        """Write the settings, with these hosts allowed."""
        allow = ", ".join(f'"http://{host}"' for host in hosts)
        self.container.write(CONFIG, SETTINGS.format(allow=allow))

    def download(self, url: str, path: str = "/tmp/got", options: str = "") -> str:
        """What ``Cache-Status`` says of a download through the node; its bytes are compared with the truth."""
        host, port = url.split("/")[2], 443 if url.startswith("https") else 80
        to = f"--connect-to {host}:{port}:127.0.0.1:{port} --cacert {TLS_DIR}/node.pem"
        head = self.container.run(f"curl -sS --fail -D - -o {path} {to} {options} {url}")
        if (got := self.container.run(f"sha256sum < {path}").split()[0]) != self.digest:
            raise ContainerFailed(f"{url}: wrong bytes ({got})")
        (status,) = [line for line in head.splitlines() if line.lower().startswith("cache-status:")]
        return status.split(";", 1)[1].strip()

    def log_has(self, text: str) -> bool:
        """Whether the node's journal holds ``text``."""
        return text in self.container.run("journalctl --no-pager --output=cat -u cacheserver")

    def ask_prometheus(self, path: str) -> Any:
        """The data of an answer of its API."""
        return json.loads(self.container.run(f"curl -sS --fail -g 'http://127.0.0.1:9090/api/v1/{path}'"))["data"]

    def last_words(self) -> str:
        """What the node and systemd said, after a step failed."""
        return self.container.run(
            "journalctl --no-pager -n 60 -u cacheserver; systemctl --no-pager status cacheserver || true"
        )
