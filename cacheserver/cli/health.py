"""``cacheserver health``: whether the node of a settings file answers, for container engines and scripts.

Owns: the command. Asks the admin listener of the settings with their token, so that no token is on a command line.
"""

from __future__ import annotations

import click

from cacheserver.cli.admin_client import AdminClient
from cacheserver.cli.options import with_client
from cacheserver.core.errors import AdminFailed


@click.command("health")
@click.option("--ready", is_flag=True, help="Ask whether it can serve, not only whether it lives.")
@with_client
def health_command(ready: bool, client: AdminClient) -> int:
    """Ask the node of this machine whether it lives, or with --ready whether it can serve.

    Exit codes: 0 yes, 1 no or no answer, 2 wrong usage or settings.
    """
    if not ready:
        client.get("/healthz")
        click.echo("alive")
        return 0
    state = client.get("/readyz")
    if state.get("ready") is not True:
        raise AdminFailed("the node is not ready")
    click.echo("ready")
    return 0
