"""Options that several commands take, and what a command gets of them.

Owns: each such option once, the admin listener's client and the settings that they make. Must not run anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, Final

import click
from click.core import ParameterSource

from cacheserver.cli.admin_client import AdminClient
from cacheserver.cli.output import config_errors
from cacheserver.core.errors import ConfigError
from cacheserver.core.units import parse_listen, reachable
from cacheserver.logs.events import printable
from cacheserver.settings.load import Flags, load_settings
from cacheserver.system.regular_file import read_regular
from cacheserver.web.options import AdminOptions

_Command = Callable[..., Any]

CACHE_DIR: Final = click.option("--cache-dir", metavar="DIR", help="One volume in DIR instead of the file's volumes.")
INSTALLED: Final = "/etc/cacheserver/cacheserver.toml"
CONFIG: Final = click.option(
    "--config",
    metavar="FILE",
    envvar="CACHESERVER_CONFIG",
    default=lambda: INSTALLED if os.path.exists(INSTALLED) else None,
    callback=lambda _context, _option, path: path or None,
    help=f"Settings file (TOML). Flags win over it. Without it: CACHESERVER_CONFIG, or {INSTALLED} if it exists.",
)
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
    CONFIG,
    click.option("--admin", metavar="ADDR:PORT", help="Admin listener of the node, instead of that of the settings."),
    click.option("--token-file", metavar="FILE", help="File with its bearer token, instead of that of the settings."),
    click.option(
        "--token",
        envvar="CACHESERVER_ADMIN_TOKEN",
        metavar="TOKEN",
        help="The token itself; better in the environment, as CACHESERVER_ADMIN_TOKEN.",
    ),
)


@dataclass(frozen=True, slots=True)
class NodeFlags:
    """What the command line says of a running node."""

    config: str | None
    admin: str | None
    token_file: str | None
    token: str | None

    def client(self) -> AdminClient:
        """Of the admin listener; the settings give what no flag gives. Raises ConfigError.

        The token of settings that the command line does not name goes to no address but theirs.
        """
        options = AdminOptions()
        if self.admin is None or config_is_named():
            options = load_settings(self.config, Flags()).admin
        if not (listen := options.listen if self.admin is None else self.admin):
            raise ConfigError("there is no admin listener to ask", where=self.config or "", key="admin.listen")
        with config_errors("--admin"):
            address = parse_listen(listen) if self.admin is not None else reachable(listen)
        token = self.token if self.token_file is None else _read_token(self.token_file)
        return AdminClient(address, options.token if token is None else token)


def config_is_named() -> bool:
    """Whether the command line that runs names the settings file."""
    return click.get_current_context().get_parameter_source("config") is ParameterSource.COMMANDLINE


def _read_token(path: str) -> str:
    with config_errors(f"--token-file: {printable(path, 200)}"):
        try:
            return read_regular(path, 4096).decode("ascii").strip()
        except OSError as exc:
            raise ValueError(f"cannot be read: {exc.strerror}") from exc


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


def with_node(command: _Command) -> _Command:
    """Add the flags that name a running node; the command gets ``node``, whose client it may make."""

    @wraps(command)
    def call(**given: Any) -> Any:
        node = NodeFlags(**{flag.name: given.pop(flag.name) for flag in fields(NodeFlags)})
        return command(node=node, **given)

    return _with(call, _ADMIN_FLAGS)


def with_client(command: _Command) -> _Command:
    """Add the flags that name a running node; the command gets ``client``. Raises ConfigError for a wrong address."""

    @with_node
    @wraps(command)
    def call(*, node: NodeFlags, **given: Any) -> Any:
        return command(client=node.client(), **given)

    return call


def _with(command: _Command, options: tuple[Callable[[_Command], _Command], ...]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
