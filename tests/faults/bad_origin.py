"""Every fault of an origin at once, each on a host of its own, before a node with the settings it is shipped with."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.figures import Figure, Size, at_least, at_most, in_time, none_of
from tests.faults.load import GONE, WATCHED, Tally
from tests.node.test_origin_faults import FAULTS
from tests.support.certificates import Authority
from tests.support.client import RawClient, Response
from tests.support.content import Content, Fault, blob
from tests.support.ground import FRESH
from tests.support.node import Node, running_node
from tests.support.origin import Origin

MIB = 1 << 20
BODY = blob(61, MIB + 500_000)
CHANGED = blob(62, MIB + 500_000)
SPAN = (1000, 1_400_001)
PATH = "/file"
MORE = {
    "one byte a second": Fault(rate_bps=1.0),
    "one byte a second in the body": Fault(stall_after=300_000, rate_bps=65_536.0),
    "ten thousand informational heads": Fault(informational=10_000),
    "ETag flip in the body": Fault(truncate_after=300_000, become=Content(CHANGED, etag='"v2"', headers=FRESH)),
    "flip without validator": Fault(truncate_after=300_000, become=Content(CHANGED, etag=None, headers=FRESH)),
    "shrinks in the body": Fault(truncate_after=300_000, become=Content(CHANGED[:MIB], etag='"v2"', headers=FRESH)),
    "503": Fault.refusing(503),
}
TRUTHS = (BODY, CHANGED, CHANGED[:MIB])


class TimedClient(RawClient):
    """Notes the longest silence."""

    longest_s = 0.0

    async def _more(self) -> bool:
        began_s = time.monotonic()
        try:
            return await super()._more()
        finally:
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)


@dataclass(slots=True)
class Outcome:
    """Of all faults."""

    tally: Tally = field(default_factory=Tally)
    silences: dict[str, float] = field(default_factory=dict)
    healed_s: dict[str, float] = field(default_factory=dict)
    most_tries: int = 0
    shortest_pause_s: float = 1000.0


async def ask(node: Node, host: str, path: str, tally: Tally, *, ranged: bool) -> tuple[Response | None, float]:
    """One request, and the longest silence in it."""
    headers = (("Range", f"bytes={SPAN[0]}-{SPAN[1] - 1}"),) if ranged else ()
    async with TimedClient(*node.content, timeout_s=45) as client:
        try:
            response = await client.request("GET", path, headers, host=host)
        except GONE:
            tally.cut += 1
            return None, client.longest_s
    if response.status in (204, 304, 416, 403, 404, 799) or 300 <= response.status < 400:
        tally.refused += 1  # in Host form the origin's own status is relayed
    elif response.fields.value("Content-Encoding") == "gzip":
        _judge_coded(response, tally)
    else:
        truths = [truth[slice(*SPAN)] if response.status == 206 else truth for truth in TRUTHS]
        tally.judge(response, truths, 206 if ranged and response.status == 206 else 200)
    return response, client.longest_s


def _judge_coded(response: Response, tally: Tally) -> None:
    """A coding that is labelled as such is the origin's representation; only what is inside can be judged."""
    known = (*TRUTHS, *(truth[slice(*SPAN)] for truth in TRUTHS), bytes(50_000_000))
    if not response.complete:
        tally.cut += 1
    elif gzip.decompress(response.body) in known:
        tally.right += 1
    else:
        tally.wrong += 1
        tally.examples.append("gzip of other bytes")


async def one_fault(node: Node, origin: Origin | None, host: str, path: str, name: str, outcome: Outcome) -> None:
    """Two clients while the origin misbehaves, then until the first right answer of that host once it does not.

    What is asked for then is new: a client of the old object may still wait for the deadline of the old connection.
    """
    kinds = ("whole", "range")
    answers = await asyncio.gather(
        *(ask(node, host, f"{path}{kind}", outcome.tally, ranged=kind == "range") for kind in kinds)
    )
    outcome.silences[name] = max(silence for _, silence in answers)
    if origin is None:
        return
    for kind in kinds:
        _count_tries(origin, f"{path}{kind}", outcome)
        origin.add(f"{path}{kind}", Content(BODY, etag='"v3"', headers=FRESH))
        origin.heal(f"{path}{kind}")
        origin.add(f"{path}{kind}/new", Content(BODY, headers=FRESH))
    began_s = time.monotonic()
    while time.monotonic() - began_s < 30:
        tally = Tally()
        await asyncio.gather(*(ask(node, host, f"{path}{kind}/new", tally, ranged=False) for kind in kinds))
        outcome.tally.add(tally)
        if tally.right == len(kinds):
            break
        await asyncio.sleep(0.2)
    outcome.healed_s[name] = time.monotonic() - began_s


def _count_tries(origin: Origin, path: str, outcome: Outcome) -> None:
    """Requests for the same bytes of which none gave a byte, and the pauses between them."""
    starts = defaultdict(list)
    for record in origin.asked(path):
        if record.status >= 500 or record.bytes_sent == 0:
            starts[record.range].append(record.started_s)
    for times in starts.values():
        outcome.most_tries = max(outcome.most_tries, len(times))
        if len(times) > 1:
            outcome.shortest_pause_s = min(outcome.shortest_pause_s, (times[-1] - times[0]) / (len(times) - 1))


async def run(directory: Path, size: Size) -> list[Figure]:
    """The same in both sizes: most of it is waiting for deadlines."""
    faults, outcome = FAULTS | MORE, Outcome()
    directory.mkdir(exist_ok=True)
    untrusted = Authority(directory).server_context(name="tls.faults.test", self_signed=True)
    async with Origin() as origin, Origin(tls=untrusted) as secure:
        hosts = {name: f"h{number}.faults.test" for number, name in enumerate(faults)}
        allow = [*hosts.values(), "a.silent.test", "a.unknown.test", "https://tls.faults.test"]
        connect_to = dict.fromkeys(hosts.values(), origin.address) | {"tls.faults.test": secure.address}
        async with running_node(directory / "node", allow=allow, connect_to=connect_to, module=WATCHED) as node:
            plays = []
            for number, (name, fault) in enumerate(faults.items()):
                for kind in ("whole", "range"):
                    path = f"/{number}{kind}"
                    origin.add(path, Content(BODY, etag=None if "without validator" in name else '"v1"', headers=FRESH))
                    origin.fault(path, always=fault)
                plays.append(one_fault(node, origin, hosts[name], f"/{number}", name, outcome))
            for host in ("a.silent.test", "a.unknown.test", "tls.faults.test"):
                plays.append(one_fault(node, None, host, "/", host, outcome))
            await asyncio.gather(*plays)
    return _figures(outcome, size)


def _figures(outcome: Outcome, size: Size) -> list[Figure]:
    fault, tally = f"{len(outcome.silences)} faults of an origin", outcome.tally
    slowest = sorted(outcome.silences.items(), key=lambda item: item[1])[-3:]
    print("  ", slowest, sorted(outcome.healed_s.items(), key=lambda item: item[1])[-3:], tally.examples[:5])
    return [
        none_of(fault, "wrong answers", tally.wrong, among=f"{tally.requests} requests"),
        in_time(fault, "silence before a byte or a 5xx", outcome.silences.values(), 20.0, size),
        in_time(fault, "healthy after", outcome.healed_s.values(), 5.0, size),
        at_most(fault, "requests for the same bytes", outcome.most_tries, 3),
        at_least(fault, "mean pause between them", outcome.shortest_pause_s, 0.1, unit=" s"),
    ]
