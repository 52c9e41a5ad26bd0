"""``cacheserver check-config``: the settings as the start of a node would find them.

Owns: the command, and taking on the user whose node it is. The rules are those of ``settings`` and ``node.preflight``.
"""

from __future__ import annotations

import os
import pwd

import click

from cacheserver.cli.options import config_is_named, with_settings
from cacheserver.cli.output import EXIT_USAGE, say, tell
from cacheserver.core.errors import ConfigError
from cacheserver.core.units import format_size, several
from cacheserver.logs.events import printable
from cacheserver.settings.load import Flags, examine_settings
from cacheserver.settings.schema import Settings


@click.command("check-config")
@click.argument("file", required=False)
@click.option("--user", metavar="USER", help="Check as this user, who is to run the node; needs root.")
@with_settings
def check_config_command(file: str | None, user: str | None, config: str | None, flags: Flags) -> int:
    """Check settings, and the files that they name, as the start of a node does; changes nothing.

    Every problem is one line with file, line and key. Root may read everything: --user tells what the node's user may.

    Exit codes: 0 a node can start with them, 2 something is wrong.
    """
    from cacheserver.node.preflight import check_libraries, start_problems, start_warnings

    if file is not None and config_is_named():
        raise click.UsageError("name the file once")
    path = file if file is not None else config
    check_libraries()
    if user is not None:
        _become(user)
    settings, faults = examine_settings(path, flags)
    for fault in (faults := faults or list(start_problems(settings))):
        tell(f"error: {fault}")
    if faults:
        return EXIT_USAGE
    for warning in start_warnings(settings):
        say(f"warning: {warning}", err=True)
    say(_summary(path, settings))
    return 0


def _become(name: str) -> None:
    """Go on as this user, for good. Raises ConfigError."""
    try:
        user = pwd.getpwnam(name)
        if user.pw_uid != os.geteuid():
            os.initgroups(name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
    except KeyError as exc:
        raise ConfigError("there is no such user", where=f"--user {printable(name, 80)}") from exc
    except PermissionError as exc:
        raise ConfigError("only root can check for another user", where=f"--user {printable(name, 80)}") from exc


def _summary(path: str | None, settings: Settings) -> str:
    capacity = format_size(sum(volume.max_size.bytes for volume in settings.store.volumes))
    volumes = ", ".join(printable(volume.path, 200) for volume in settings.store.volumes)
    services = settings.all_services()
    own = sum(service.own for service in services)
    return (
        f"ok: {printable(path, 200) if path else 'built-in settings'}: listen on {', '.join(settings.server.listen)}; "
        f"admin on {settings.admin.listen or 'none'}; {capacity} in {volumes}; "
        f"{several(len(services), 'service')}, {own} of them own"
    )
