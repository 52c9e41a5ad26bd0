"""All checks at once, each with its deadline.

Owns: which checks belong to which group, the deadlines, and that a check which fails in itself is a line too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from cacheserver.doctor import certificate, disks, machine, origins, reach, through_node
from cacheserver.doctor.check import Check, Group
from cacheserver.doctor.context import Context, DoctorOptions
from cacheserver.settings.schema import Settings

GROUPS: Final[tuple[Group, ...]] = ("health", "mcc", "p2p")
_DEADLINE_S: Final = 16.0
_CLOSING_S: Final = 2.0


class _Job(NamedTuple):
    """Checks that run together; ``name`` is that of their line when there is no result."""

    name: str
    groups: str
    run: Callable[[Context], Awaitable[list[Check]]]
    own: bool = False
    """About this machine's node: left out where another node is asked for."""


_JOBS: Final = (
    _Job("port", "health mcc", machine.port_checks, own=True),
    _Job("node", "health mcc", through_node.node_checks, own=True),
    _Job("descriptors", "health", machine.descriptor_checks, own=True),
    _Job("disk", "health", disks.disk_checks, own=True),
    _Job("clock", "health", origins.clock_checks),
    _Job("proxy", "health", machine.proxy_checks),
    _Job("dns", "health", reach.reach_checks),
    _Job("loop", "health mcc", reach.loop_checks),
    _Job("portal", "health", origins.portal_checks),
    _Job("range", "health", origins.range_checks),
    _Job("endpoint", "health p2p", origins.endpoint_checks),
    _Job("addresses", "mcc", through_node.address_checks, own=True),
    _Job("certificate", "mcc", certificate.certificate_checks, own=True),
    _Job("test-url", "mcc", through_node.known_url_checks),
    _Job("firewall", "mcc", machine.firewall_checks, own=True),
    _Job("peer", "p2p", reach.peer_checks),
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one run found, and what the node answered on its admin listener for the bundle; empty where nothing."""

    checks: tuple[Check, ...]
    status: bytes = b""
    metrics: bytes = b""

    @property
    def failed(self) -> bool:
        """Whether any check failed; warnings do not count."""
        return any(check.level == "fail" for check in self.checks)


async def diagnose(
    settings: Settings,
    options: DoctorOptions,
    groups: Collection[Group],
    *,
    path: str | None = None,
    collect: bool = False,
    deadline_s: float = _DEADLINE_S,
    wall_s: Callable[[], float] = time.time,
) -> Diagnosis:
    """Run the checks of ``groups`` together; ends within about ``deadline_s`` whatever hangs.

    ``collect`` fetches status and metrics too.
    """
    wanted = set(groups)
    jobs = [job for job in _JOBS if wanted.intersection(job.groups.split()) and not (job.own and options.nodes)]
    async with Context(settings, options, wall_s) as context:
        results = await asyncio.gather(*(_finished(job, context, deadline_s) for job in jobs))
        checks = tuple(machine.config_checks(path, context)) if "health" in groups else ()
        checks += tuple(check for result in results for check in result)
        if not collect or not settings.admin.listen:
            return Diagnosis(checks)
        try:
            async with asyncio.timeout(_CLOSING_S):
                status, metrics = await asyncio.gather(context.admin("/api/v1/status"), context.admin("/metrics"))
        except TimeoutError:
            return Diagnosis(checks)
        return Diagnosis(checks, status.body, metrics.body)


async def _finished(job: _Job, context: Context, deadline_s: float) -> list[Check]:
    try:
        async with asyncio.timeout(deadline_s):
            return await job.run(context)
    except TimeoutError:
        found = f"no result within {deadline_s:g} s"
        return [Check(job.name, "fail", "this check", found, "something hangs: look at disks, DNS and the network")]
    except Exception as exc:
        # A fault of a check must not take the others' results with it; the kind of error is all that may be shown.
        return [Check(job.name, "fail", "this check", f"ended by {type(exc).__name__}", "please report it")]
