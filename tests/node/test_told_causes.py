"""An answer that is no success has one line in the event log: cause, host and what to do, once a minute for a host."""

from __future__ import annotations

import pytest

from tests.support.content import Content, Fault, blob
from tests.support.ground import DO_HOST, HOST, OTHER_HOST, Ground, GroundOptions
from tests.support.node import LogLine

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEAD_HOST = "dead.example.test"
GROUND = GroundOptions(
    config=f'''
allow = ["{DEAD_HOST}"]
[upstream]
connect_timeout_s = 1.0
head_timeout_s = 0.4
[fill]
first_byte_s = 1.0
backoff_s = 0.02
''',
    connect_to={DEAD_HOST: "127.0.0.1:9"},
)


def told(ground: Ground, event: str, host: str) -> list[LogLine]:
    return [line for line in ground.node.log if line.get("event") == event and line.get("host") == host]


async def test_a_host_that_is_refused_many_times_is_one_line_that_says_how_to_allow_it(ground: Ground) -> None:
    for number in range(60):
        assert (await ground.get(f"/{number}", host="elsewhere.example")).status == 403
    await ground.node.wait_answered("/59")
    (line,) = told(ground, "refused", "elsewhere.example")
    assert (line["reason"], line["status"], line["client"]) == ("host_not_allowed", 403, "127.0.0.1")
    assert "elsewhere.example" in line["cause"]
    assert line["remedy"].endswith('allow = ["elsewhere.example"]')


async def test_another_host_that_is_refused_has_a_line_of_its_own(ground: Ground) -> None:
    assert (await ground.get("/", host="third.elsewhere.example")).status == 403
    await ground.node.wait_log(lambda line: line.get("host") == "third.elsewhere.example")


@pytest.mark.parametrize(
    ("host", "fault", "status", "cause"),
    [
        (DEAD_HOST, Fault(), 502, "Connection refused"),
        (OTHER_HOST, Fault(close_before_head=True), 502, "closed before an answer"),
        (HOST, Fault(delay_s=4.0), 504, "in time"),
        (DO_HOST, Fault(), 502, "origin answered 404"),
    ],
)
async def test_a_502_or_504_names_its_cause_and_no_class_to_client_and_log(
    host: str, fault: Fault, status: int, cause: str, ground: Ground
) -> None:
    path = ground.new_path()
    if host != DO_HOST:
        ground.origin.add(path, Content(blob(1, 1000)))
        ground.origin.fault(path, always=fault)
    for _ in range(3):
        answer = await (ground.get_as_client if host == DO_HOST else ground.get)(path, host=host)
        assert answer.status == status
        assert cause in answer.body.decode()
        assert "Error" not in answer.body.decode()
    line = await ground.node.wait_log(lambda line: line.get("event") == "unserved" and line.get("host") == host)
    assert cause in line["cause"]
    assert (line["level"], line["status"]) == ("warning", status)
    assert "Error" not in line["cause"]
    assert line["remedy"]
    assert len(told(ground, "unserved", host)) == 1
