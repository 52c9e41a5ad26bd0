"""A real Prometheus scrapes a running node under known traffic: every panel has an answer, and it is the right one."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from cacheserver.maintenance.scrub_position import Position, save_position
from cacheserver.metrics.table import METRICS
from tests.monitoring.dashboard import ALERTS, CERTIFICATE, RULES, metric_names, panels
from tests.monitoring.prometheus import Prometheus, needs_prometheus, running_prometheus
from tests.support.content import Content, blob
from tests.support.ground import DO_HOST, HOST, Ground, GroundOptions, running_ground

pytestmark = [needs_prometheus, pytest.mark.timeout(50)]

OWN = blob(771, (1 << 20) + 4321)
SHIPPED = blob(772, 300_000)
HITS, HIT_BYTES = 5, 60_000
ROUND_OBJECT_BYTES = len(OWN) + HITS * HIT_BYTES + len(SHIPPED)
ROUND_FETCHED_BYTES = len(OWN) + len(SHIPPED)
ROUND_ANSWERS = 1 + HITS + 1 + 1
CONFIG = '[[subnets]]\nname = "local"\nnetworks = ["127.0.0.0/8"]\n'


async def play(ground: Ground) -> int:
    """One round: a miss and hits of an own host, a miss of a shipped service, a refused host, a purged object.

    Gives the length of the refusal's text.
    """
    path = ground.add(OWN)
    assert (await ground.get(path)).body == OWN
    await ground.origin.wait_done(path)
    for _ in range(HITS):
        assert (await ground.get(path, ("Range", f"bytes=0-{HIT_BYTES - 1}"))).status == 206
    shipped = f"/filestreamingservice/files/{uuid.uuid4()}"
    ground.origin.add(shipped, Content(SHIPPED))
    assert (await ground.get(shipped, host=DO_HOST)).body == SHIPPED
    refusal = await ground.get("/x", host="nobody.example")
    assert refusal.status == 403
    admin = "http://{}:{}/api/v1/purge".format(*ground.node.admin)
    async with (
        aiohttp.ClientSession() as session,
        session.post(admin, json={"url": f"http://{HOST}{path}"}) as response,
    ):
        assert response.status == 200, await response.text()
    return len(refusal.body)


@dataclass(frozen=True, slots=True)
class Reading:
    """All panels at one time, over a window in which one round was played."""

    server: Prometheus
    at_s: float
    window_ms: int
    sent_bytes: int
    """What clients got in one round."""

    async def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        for variable in ("$job", "$instance"):
            expression = expression.replace(variable, ".+")
        for variable in ("$__rate_interval", "$__range"):
            expression = expression.replace(variable, f"{self.window_ms}ms")
        return await self.server.query(expression, self.at_s)

    async def by_label(self, title: str, label: str, query: int = 0) -> dict[str, float]:
        """The values of a panel's expression by one label; ``""`` where it has none."""
        (panel,) = (panel for panel in panels() if panel.title == title)
        return {labels.get(label, ""): value for labels, value in await self.ask(panel.expressions[query])}

    async def value(self, title: str, query: int = 0) -> float:
        """The one value of a panel's expression."""
        (found,) = (await self.by_label(title, "", query)).values()
        return found


def config_for(ground: Ground) -> str:
    return (
        "global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\n"
        f"rule_files: ['{RULES}', '{ALERTS}']\n"
        "scrape_configs:\n  - job_name: cacheserver\n"
        f"    static_configs: [{{targets: ['{ground.node.admin[0]}:{ground.node.admin[1]}']}}]\n"
    )


async def read(ground: Ground, server: Prometheus) -> Reading:
    """Play one round to make every series, and a second one inside the window that is read."""
    sent_bytes = ROUND_OBJECT_BYTES + await play(ground)
    answers = (await ground.node.metrics()).total("cacheserver_requests_total")
    assert answers == ROUND_ANSWERS
    await server.wait_value("sum(cacheserver_requests_total)", answers)
    await server.wait_value("sum(cacheserver_manifests_total)", 1)
    start_s = time.time()
    ((_, scraped_s),) = await server.query("timestamp(cacheserver_build_info)")
    while scraped_s < start_s:
        ((_, scraped_s),) = await server.query("timestamp(cacheserver_build_info)")
    await play(ground)
    await server.wait_value("sum(cacheserver_requests_total)", 2 * answers)
    at_s = time.time()
    return Reading(server, at_s, int((at_s - start_s) * 1000), sent_bytes)


async def every_panel_has_an_answer(reading: Reading) -> None:
    known = {doc.name for doc in METRICS}
    for panel in panels():
        for expression in panel.expressions:
            if metric_names(expression) == {CERTIFICATE}:
                assert CERTIFICATE not in known or not await reading.ask(expression), "there is no certificate here"
                continue
            rows = await reading.ask(expression)
            assert rows, (panel.title, expression)
            assert any(math.isfinite(value) for _, value in rows), (panel.title, expression)


async def panels_say_what_was_played(reading: Reading) -> None:
    """Prometheus stretches a rise to the ends of its window, by one factor for all counters of one target."""
    ((_, answers),) = await reading.ask("sum(increase(cacheserver_requests_total[$__range]))")
    stretch = answers / ROUND_ANSWERS
    assert 0.7 < stretch < 2.5
    rate = 8 * stretch / (reading.window_ms / 1000)
    near, sent_bytes = pytest.approx, reading.sent_bytes
    assert await reading.value("Delivered") == near(stretch * sent_bytes)
    assert await reading.value("Cache efficiency") == near(1 - ROUND_FETCHED_BYTES / ROUND_OBJECT_BYTES), (
        "refusals save nothing"
    )
    assert await reading.value("Mean egress") == near(rate * sent_bytes)
    assert await reading.value("Mean ingress") == near(rate * ROUND_FETCHED_BYTES)
    assert await reading.value("Egress and ingress", 1) == near(rate * ROUND_FETCHED_BYTES)
    services = await reading.by_label("Delivered by service", "service")
    assert services[HOST] == near(rate * (len(OWN) + HITS * HIT_BYTES))
    assert sum(services.values()) == near(rate * sent_bytes)
    ratios = await reading.by_label("Byte hit ratio by service", "service")
    assert ratios[HOST] == near(1 - len(OWN) / (len(OWN) + HITS * HIT_BYTES))
    assert await reading.by_label("Delivered by listener", "listener") == near({"plain": rate * sent_bytes})
    assert await reading.by_label("Delivered by subnet", "subnet") == near({"local": rate * sent_bytes})
    hits = HITS * HIT_BYTES / ROUND_OBJECT_BYTES
    assert await reading.by_label("Share of hits by subnet", "subnet") == near({"local": hits})
    outcomes = await reading.by_label("Answers by outcome", "outcome")
    assert outcomes == near({"hit": rate / 8 * HITS, "miss": rate / 8 * 2, "refused": rate / 8})
    assert await reading.by_label("Received by class of source", "source") == near(
        {"origin": rate * ROUND_FETCHED_BYTES}
    )
    assert (await reading.by_label("Refused requests", "reason"))["host_not_allowed"] == near(stretch)
    assert (await reading.by_label("Evicted", "reason"))["purged"] > 0
    assert await reading.value("Byte hit ratio with twice the disk", 1) == near(await reading.value("Cache efficiency"))
    assert await reading.value("Healthy nodes") == 1
    assert await reading.value("Unhealthy nodes") == await reading.value("Offline volumes") == 0
    assert 0 < (await reading.by_label("First byte", "outcome"))["hit"] < 5


@pytest.mark.asyncio
async def test_panels_answer_rightly_from_a_real_scrape(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    save_position(str(tmp_path / "cache"), Position(completed_s=time.time() - 60))  # what never happened has no age
    async with (
        running_ground(tmp_path, GroundOptions(config=CONFIG)) as ground,
        running_prometheus(tmp_path, config_for(ground)) as server,
    ):
        reading = await read(ground, server)
        await every_panel_has_an_answer(reading)
        await panels_say_what_was_played(reading)
        ((_, sent),) = await server.query("sum(cacheserver_response_bytes_total)")
        assert sent == 2 * reading.sent_bytes
        rules = (await server.api("rules"))["groups"]
        assert [rule for group in rules for rule in group["rules"] if rule["health"] == "err"] == []
        ((target),) = (await server.api("targets"))["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
