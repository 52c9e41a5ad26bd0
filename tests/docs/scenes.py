"""What each page finds when its first block runs, and what happens beside the page on the way.

Owns the labs of the pages. A page with commands and without a scene fails ``test_blocks.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.docs.lab import ORIGINS

_ORIGIN: Final = """
mkdir -p www/mscomtest www/d
head -c 969710 /dev/urandom >www/mscomtest/wuidt.gif
head -c 3000000 /dev/urandom >www/d/update.cab
.venv/bin/python -m tools.lab_origin www &
"""
_SETTINGS: Final = "cat >/etc/cacheserver/cacheserver.toml <<'TOML'\n{tls}{rest}TOML\n"
_REST: Final = (
    '[server]\nlisten = ["127.0.0.1:80"]\n{listen_tls}[[store.volumes]]\npath = "/var/cache/cacheserver"\n'
    'max_size = "1GiB"\n[upstream.connect_to]\n' + "".join(f'"{host}" = "127.0.0.1:9000"\n' for host in ORIGINS)
)
_NODE: Final = "cacheserver serve 2>>node.log &\nnode=$!\nuntil_ready\n"
_STOP: Final = "kill $node; wait $node\n"
_GET: Final = "curl -s -f -o /dev/null 'http://127.0.0.1/{}?cacheHostOrigin={}'\n"


def _settings(*, tls: bool = False) -> str:
    listen = 'listen_tls = ["127.0.0.1:443"]\n' if tls else ""
    names = '[tls]\ncertificate = "tls/node.pem"\nkey = "tls/node.key"\nnames = ["cache.corp.example"]\n' if tls else ""
    return _SETTINGS.format(tls=names, rest=_REST.format(listen_tls=listen))


@dataclass(frozen=True, slots=True)
class Scene:
    """Shell that comes before the first block, and before each block that holds a text."""

    setup: str = ""
    before: dict[str, str] = field(default_factory=dict)


_SIGN: Final = """
openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=Lab -keyout ca.key -out ca.pem 2>/dev/null
printf 'extendedKeyUsage=serverAuth\\nsubjectAltName=DNS:cache.corp.example\\n' >extensions
openssl x509 -req -in /etc/cacheserver/tls/node.key.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 8 \\
    -extfile extensions -out leaf.pem 2>/dev/null
cat leaf.pem ca.pem >node.cer
"""
_LINEAGE: Final = (
    "export RENEWED_LINEAGE=$PWD\ncp leaf.pem fullchain.pem\ncp /etc/cacheserver/tls/node.key privkey.pem\n"
)
_DO, _WU = "dl.delivery.mp.microsoft.com", "download.windowsupdate.com"

SCENES: Final = {
    "README.md": Scene(),
    "docs/air-gap.md": Scene(
        _ORIGIN + _settings() + _NODE + _GET.format("d/update.cab", _DO) + _STOP,
        {"import bundle.csb": "rm -r /var/cache/cacheserver\n"},
    ),
    "docs/clients.md": Scene(_ORIGIN + _settings() + _NODE),
    "docs/configure.md": Scene(_settings()),
    "docs/https.md": Scene(
        _ORIGIN + _settings(tls=True),
        {
            "tls import": _SIGN,
            "$RENEWED_LINEAGE": _LINEAGE,
            "self-signed": "rm /etc/cacheserver/tls/*\n",
            "curl -s": _NODE + _GET.format("mscomtest/wuidt.gif", "au.download.windowsupdate.com"),
        },
    ),
    "docs/install.md": Scene(
        "mkdir /etc/cacheserver/tls\n"
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout node.key -out node.pem\n"
    ),
    "docs/integrity.md": Scene(
        _ORIGIN + _settings() + _NODE + _GET.format("d/update.cab", _WU),
        {"verify /var/cache": _STOP, "pin http": _NODE},
    ),
    "docs/troubleshooting.md": Scene(
        _ORIGIN
        + _settings()
        + _NODE
        + """
line='{"ts":"2026-03-01T10:15:00.000Z","status":200,"bytes":10,"outcome":"hit","client":"10.1.0.9"}'
printf '%s\\n%s\\n' "$line" "$line" | gzip >/var/log/cacheserver/access.log.2.gz
echo "$line" >/var/log/cacheserver/access.log.1
"""
    ),
}
