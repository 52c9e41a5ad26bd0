"""The admin listener: health, metrics that agree with the traffic, status."""

from __future__ import annotations

import pytest

from tests.support.client import RawClient
from tests.support.content import Fault, blob
from tests.support.ground import DO_HOST, HOST, PIECE, Ground
from tests.support.node import Metrics

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = blob(101, 3 * PIECE)


def grown(before: Metrics, after: Metrics, name: str, **labels: str) -> float:
    """By how much a counter has grown."""

    def value(metrics: Metrics) -> float:
        return metrics.total(name, **labels) if name in metrics.names() else 0.0

    return value(after) - value(before)


async def test_a_running_node_is_healthy_and_ready(ground: Ground) -> None:
    for target in ("/healthz", "/readyz"):
        response = await ground.node.ask_admin(target)
        assert (response.status, response.complete) == (200, True)
        assert (await ground.node.ask_admin(target, method="HEAD")).status == 200


async def test_metrics_count_what_clients_and_origin_did(ground: Ground) -> None:
    path = ground.add(BODY)
    before = await ground.node.metrics()
    assert (await ground.get(path)).body == BODY
    await ground.origin.wait_done(path)
    for _ in range(4):
        assert (await ground.get(path, ("Range", "bytes=0-99999"))).complete
    await ground.node.wait_answered(path, 5)
    after = await ground.node.metrics()
    assert grown(before, after, "cacheserver_requests_total", outcome="miss", code="2xx") == 1
    assert grown(before, after, "cacheserver_requests_total", outcome="hit", code="2xx") == 4
    assert grown(before, after, "cacheserver_response_bytes_total") == len(BODY) + 4 * 100_000
    assert grown(before, after, "cacheserver_upstream_bytes_total") == len(BODY)
    assert after.total("cacheserver_fills_in_flight") == 0
    assert grown(before, after, "cacheserver_store_bytes") >= len(BODY)


async def test_refusals_are_counted_by_reason_and_logged(ground: Ground) -> None:
    before = await ground.node.metrics()
    await ground.node.get("/refused-1?cacheHostOrigin=unknown.example.org")
    await ground.node.get("/refused-2?cacheHostOrigin=a..b")
    await ground.get("/refused-3", method="POST")
    lines = [(await ground.node.wait_answered(f"/refused-{number}"))[0] for number in (1, 2, 3)]
    assert [line["status"] for line in lines] == [403, 400, 405]
    after = await ground.node.metrics()
    for reason in ("host_not_allowed", "malformed", "method_not_allowed"):
        assert grown(before, after, "cacheserver_refused_total", reason=reason) == 1


async def test_upstream_faults_are_counted_by_kind(ground: Ground) -> None:
    path = ground.add(BODY)
    ground.origin.fault(path, always=Fault.refusing(500))
    before = await ground.node.metrics()
    assert (await ground.get(path)).status == 500
    await ground.node.wait_answered(path)
    after = await ground.node.metrics()
    assert grown(before, after, "cacheserver_upstream_requests_total", result="origin_status") >= 1


async def test_no_label_comes_from_a_client(ground: Ground) -> None:
    for number in range(30):
        await ground.node.get(f"/odd-{number}?cacheHostOrigin=h{number}.example.org", [("User-Agent", f"ua-{number}")])
        await ground.get(f"/odd-{number}", method=f"M{number}")
    metrics = await ground.node.metrics()
    values = {value for sample in metrics.samples for value in sample.labels.values()}
    assert not [value for value in values if "odd-" in value or "ua-" in value or value.startswith(("h1", "M1"))]
    assert len(metrics.samples) < 1000


async def test_status_is_one_json_object_about_the_node(ground: Ground) -> None:
    status = await ground.node.status()
    assert status


async def test_the_log_never_holds_a_token_or_a_control_character(ground: Ground) -> None:
    path = ground.add(BODY[:1000], headers=())
    await ground.get_as_client(f"{path}?P4=s3cret-token", host=DO_HOST)
    async with RawClient(*ground.node.content) as client:
        await client.request("GET", path, [("User-Agent", 'a\xffb\x80\x9b31m "quoted" \\n')], host=HOST)
    await ground.node.wait_answered(path, 2)
    assert "s3cret-token" not in str(ground.node.log)
    ground.node.check_log()


async def test_admin_paths_are_not_on_the_content_listener_nor_content_on_admin(ground: Ground) -> None:
    assert (await ground.node.get("/metrics")).status in (400, 403)
    path = ground.add(BODY)
    response = await ground.node.ask_admin(f"{path}?cacheHostOrigin={HOST}")
    assert response.status == 404
    assert not ground.origin.asked(path)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_admin_changes_nothing(ground: Ground, method: str) -> None:
    assert (await ground.node.ask_admin("/api/v1/status", method=method)).status == 405


async def test_a_page_that_rebinds_its_name_cannot_read_the_admin_listener(ground: Ground) -> None:
    response = await ground.node.ask_admin("/api/v1/status", [("Host", "evil.example.org")])
    assert response.status == 403


async def test_a_target_that_nobody_can_read_is_answered(ground: Ground) -> None:
    async with RawClient(*ground.node.admin) as client:
        response = await client.request("GET", "http://xn--a/", host="127.0.0.1")
        assert response.status == 404
        assert (await client.request("GET", "/healthz", host="127.0.0.1")).status == 200
