"""``cacheserver health``: whether the node of a settings file answers, for container engines and scripts.

Owns: the command. Asks the admin listener of the settings with their token, so that no token is on a command line.
"""

from __future__ import annotations

import click
import msgspec

from cacheserver.cli.admin_client import AdminClient
from cacheserver.cli.options import with_client
from cacheserver.cli.output import say
from cacheserver.core.errors import AdminFailed

_TIMEOUT_S = 10.0


class _Alive(msgspec.Struct):
    status: str


class _Ready(msgspec.Struct):
    ready: bool


@click.command("health")
@click.option("--ready", is_flag=True, help="Ask whether it can serve, not only whether it lives.")
@with_client
def health_command(ready: bool, client: AdminClient) -> int:
    """Ask the node of this machine whether it lives, or with --ready whether it can serve; 10 s at most.

    Exit codes: 0 yes, 1 no or no answer, 2 wrong usage or settings.
    """
    if not ready:
        client.get("/healthz", _Alive, within_s=_TIMEOUT_S)
        say("alive")
        return 0
    if not client.get("/readyz", _Ready, within_s=_TIMEOUT_S).ready:
        raise AdminFailed("the node is not ready")
    say("ready")
    return 0
