"""``cacheserver doctor``: flags to checks, checks to lines, failures to an exit code.

Owns: the command line. The checks are ``doctor``'s, imported only when they are to be run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

import cacheserver
from cacheserver.cli.options import JSON, with_settings
from cacheserver.cli.output import EXIT_FOUND, config_errors, say, say_json
from cacheserver.core.errors import ConfigError
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.shown import shown
from cacheserver.core.units import several
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.schema import Settings

if TYPE_CHECKING:
    from cacheserver.doctor.check import Group
    from cacheserver.doctor.context import DoctorOptions
    from cacheserver.doctor.run import Diagnosis


@click.command("doctor")
@click.option("--health", is_flag=True, help="Machine, disks, clock, network and origins only.")
@click.option("--mcc", is_flag=True, help="What clients need of the node only: certificate, names, test URLs.")
@click.option("--p2p", is_flag=True, help="Ports and services of clients among themselves only.")
@JSON
@click.option("--bundle", metavar="FILE.tar.gz", help="Write results, settings without secrets, logs and metrics too.")
@click.option("--log", "logs", multiple=True, metavar="FILE", help="A log for the bundle; may be repeated.")
@click.option("--peer", "peers", multiple=True, metavar="HOST", help="Try TCP 7680 of this client; may be repeated.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="[https://]HOST[:PORT]",
    help="Ask this node for the test URLs, as a client would, and leave this machine's node out; may be repeated.",
)
@click.option("--name", "names", multiple=True, metavar="NAME", help="A name that clients use over https.")
@click.option("--ca-file", default="", metavar="FILE", help="What clients trust (PEM) instead of this machine's store.")
@click.option("--user", default="", metavar="USER", help="The node's user, where no node runs.")
@click.option("--service", "services", multiple=True, metavar="NAME", help="Look at the origins of this service only.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="HOST", help="A further host that must answer https.")
@click.option("--range-url", "range_urls", multiple=True, metavar="URL", help="A further URL to ask for a byte range.")
@with_settings
def doctor_command(
    as_json: bool, bundle: str | None, logs: tuple[str, ...], config: str | None, flags: Flags, **own: Any
) -> int:
    """Look at the node and its surroundings: what was checked, what was found, what to do.

    Run it on the node's machine, as its user or as root, with the settings of the node. Changes nothing. All groups of
    checks are run unless one is named. Ends within 20 seconds. upstream.connect_to is respected.

    Exit codes: 0 nothing failed (warnings may stand there), 2 wrong usage, 3 a check failed.
    """
    from cacheserver.doctor.bundle import write_bundle
    from cacheserver.doctor.run import GROUPS

    wanted = {group: own.pop(group) for group in GROUPS}
    groups = [group for group, on in wanted.items() if on] or list(wanted)
    settings, diagnosis = _run(config, flags, _options(own), groups, collect=bundle is not None)
    levels = [check.level for check in diagnosis.checks]
    counts = {level: levels.count(level) for level in ("ok", "warn", "fail")}
    if as_json:
        facts = {"version": cacheserver.__version__, "failed": diagnosis.failed, "counts": counts}
        say_json({**facts, "checks": [check.as_json() for check in diagnosis.checks]})
    else:
        for check in diagnosis.checks:
            say(check.line())
        say(f"{counts['ok']} ok, {several(counts['warn'], 'warning')}, {several(counts['fail'], 'failure')}")
    if bundle is not None:
        names = write_bundle(bundle, diagnosis, settings=settings, config_file=config, logs=logs)
        say(f"wrote {bundle}: {', '.join(names)}", err=True)
    return EXIT_FOUND if diagnosis.failed else 0


def _options(own: dict[str, Any]) -> DoctorOptions:
    """The doctor's own flags. Raises ConfigError."""
    from cacheserver.doctor.context import DoctorOptions

    options = DoctorOptions(**own, environment=dict(os.environ))
    if options.ca_file and not os.path.isfile(options.ca_file):
        raise ConfigError(f"no such file: {options.ca_file}", where="--ca-file")
    for url in options.range_urls:
        with contextlib.suppress(ValueError):
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                continue
        raise ConfigError(f"{shown(url)} is not http://HOST/PATH", where="--range-url")
    with config_errors("--endpoint"):
        for host in options.endpoints:
            parse_authority(host)
    return options


def _run(
    config: str | None, flags: Flags, options: DoctorOptions, groups: list[Group], *, collect: bool
) -> tuple[Settings | None, Diagnosis]:
    """Settings and results; wrong settings are a result, after which nothing else can be checked."""
    from cacheserver.doctor.check import Check
    from cacheserver.doctor.run import Diagnosis, diagnose

    try:
        settings = load_settings(config, flags)
    except ConfigError as exc:
        advice = "correct it; the node refuses to start with it. Nothing else was checked"
        return None, Diagnosis((Check("config", "fail", config or "settings", str(exc), advice),))
    unknown = set(options.services) - {service.name for service in settings.all_services()}
    if unknown:
        raise ConfigError(f"there is no service {', '.join(sorted(unknown))}", where="--service")
    return settings, asyncio.run(diagnose(settings, options, groups, path=config, collect=collect))
