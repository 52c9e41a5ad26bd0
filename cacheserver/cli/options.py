"""Options that several commands take, and what a command gets of them.

Owns: each such option once, the admin listener's client and the settings that they make. Must not run anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, Final

import click

from cacheserver.cli.admin_client import AdminClient
from cacheserver.cli.output import config_errors
from cacheserver.core.units import parse_listen
from cacheserver.settings.load import Flags, load_settings

_Command = Callable[..., Any]

CACHE_DIR: Final = click.option("--cache-dir", metavar="DIR", help="One volume in DIR instead of the file's volumes.")
CONFIG: Final = click.option("--config", metavar="FILE", help="Settings file (TOML). Flags win over it.")
CONNECT_TO: Final = click.option(
    "--connect-to",
    multiple=True,
    metavar="HOST=ADDR:PORT",
    help="Connect to this address for HOST instead of asking DNS; may be repeated.",
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
MAX_SIZE: Final = click.option("--max-size", metavar="SIZE", help="Most bytes of the one volume, such as 100GiB.")
_SETTING_FLAGS: Final = (
    CONFIG,
    click.option("--listen", multiple=True, metavar="ADDR:PORT", help="Content listener; may be repeated."),
    click.option("--listen-tls", multiple=True, metavar="ADDR:PORT", help="Content listener over TLS; needs [tls]."),
    click.option("--admin-listen", metavar="ADDR:PORT", help="Admin listener; empty: none."),
    click.option("--workers", type=int, metavar="N", help="Accepted and ignored until 0.3: the node is one process."),
    CACHE_DIR,
    MAX_SIZE,
    click.option("--allow", multiple=True, metavar="HOST", help="Serve this host too, by RFC rules; may be repeated."),
    CONNECT_TO,
    click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
)
_ADMIN_FLAGS: Final = (
    click.option(
        "--admin", default="127.0.0.1:8081", show_default=True, metavar="ADDR:PORT", help="Admin listener of the node."
    ),
    click.option(
        "--token",
        default="",
        envvar="CACHESERVER_ADMIN_TOKEN",
        metavar="TOKEN",
        help="Its bearer token; better in the environment, as CACHESERVER_ADMIN_TOKEN.",
    ),
)


def with_settings(command: _Command) -> _Command:
    """Add the flags of all settings; the command gets ``config``, the file, and ``flags``, which win over it."""

    @wraps(command)
    def call(**given: Any) -> Any:
        flags = Flags(**{flag.name: given.pop(flag.name) for flag in fields(Flags)})
        return command(flags=flags, **given)

    return _with(call, _SETTING_FLAGS)


def with_store(command: _Command) -> _Command:
    """Add the flags that name volumes; the command gets ``store``, their options. Raises ConfigError."""

    @wraps(command)
    def call(*, config: str | None, cache_dir: str | None, max_size: str | None, **given: Any) -> Any:
        return command(store=load_settings(config, Flags(cache_dir=cache_dir, max_size=max_size)).store, **given)

    return _with(call, (CACHE_DIR, CONFIG, MAX_SIZE))


def with_client(command: _Command) -> _Command:
    """Add the flags that name a running node; the command gets ``client``. Raises ConfigError for a wrong address."""

    @wraps(command)
    def call(*, admin: str, token: str, **given: Any) -> Any:
        with config_errors("--admin"):
            address = parse_listen(admin)
        return command(client=AdminClient(address, token), **given)

    return _with(call, _ADMIN_FLAGS)


def _with(command: _Command, options: tuple[Callable[[_Command], _Command], ...]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
