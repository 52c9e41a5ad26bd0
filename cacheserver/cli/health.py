"""``cacheserver health``: whether the node of a settings file answers, for container engines and scripts.

Owns: the command. Asks the admin listener of the settings with their token, so that no token is on a command line.
"""

from __future__ import annotations

import click

from cacheserver.cli.admin_client import AdminClient
from cacheserver.core.errors import AdminFailed, ConfigError
from cacheserver.core.units import reachable
from cacheserver.settings.load import Flags, load_settings


@click.command("health")
@click.option("--config", metavar="FILE", help="Settings file of the node; its admin listener and token are used.")
@click.option("--ready", is_flag=True, help="Ask whether it can serve, not only whether it lives.")
def health_command(config: str | None, ready: bool) -> int:
    """Ask the node of this machine whether it lives, or with --ready whether it can serve.

    Exit codes: 0 yes, 1 no or no answer, 2 wrong usage or settings.
    """
    admin = load_settings(config, Flags()).admin
    if not admin.listen:
        raise ConfigError("there is no admin listener to ask", where=config or "", key="admin.listen")
    client = AdminClient(reachable(admin.listen), admin.token)
    if not ready:
        client.get("/healthz")
        click.echo("alive")
        return 0
    state = client.get("/readyz")
    if state.get("ready") is not True:
        raise AdminFailed("the node is not ready")
    click.echo("ready")
    return 0
