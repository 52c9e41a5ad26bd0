"""Nobody leads the node to an address off its list: not by any spelling of a host, not by redirects, not by DNS."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.security import payloads
from tests.security.figures import Figure, Row, Scene
from tests.security.raw import exchange
from tests.security.watch import NETWORK, Watch
from tests.support.content import Content, Fault
from tests.support.node import Node, running_node
from tests.support.origin import Origin

ALLOWED = "cdn.example.test"
ZONE = "rebind.example.test"
PUBLIC = "8.8.4.4"
_AT_ONCE = 24
_CONFIG = '[upstream]\nresolver = "system"\ndns_ttl_s = 0\n'


def scripted_dns(*, every: int) -> dict[str, list[list[str]]]:
    """Per special address: it alone, before and after a public one, and as a later answer than a public one."""
    made: dict[str, list[list[str]]] = {}
    for number, address in enumerate(payloads.SPECIAL):
        other = "2606:4700::1111" if ":" not in address else PUBLIC
        made[f"only{number}.{ZONE}"] = [[address]]
        if number % every == 0:  # these wait for the public address to be tried and tried again
            made[f"first{number}.{ZONE}"] = [[address, PUBLIC]]
            made[f"mixed{number}.{ZONE}"] = [[other, address]]
            made[f"second{number}.{ZONE}"] = [[PUBLIC], [address]]
    return made


async def ask_all(node: Node, requests: list[tuple[str, bytes]]) -> list[tuple[str, bytes, tuple[int, ...]]]:
    """Statuses of every request, each on a connection of its own, a few at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask(form: str, head: bytes) -> tuple[str, bytes, tuple[int, ...]]:
        async with room:
            try:
                return form, head, (await exchange(node.content, [head], timeout_s=25.0)).statuses
            except TimeoutError:
                return form, head, ()

    return list(await asyncio.gather(*(ask(form, head) for form, head in requests)))


def redirecting(origin: Origin, victim_port: int) -> list[tuple[str, bytes]]:
    """Requests for paths of the origin that redirect off the list, directly and over an allowed hop."""
    requests = []
    for number, location in enumerate(payloads.locations(ALLOWED, victim_port)):
        origin.add(f"/r/{number}", Content(b""))
        origin.fault(f"/r/{number}", always=Fault.redirecting(location, (301, 302, 303, 307, 308)[number % 5]))
        origin.add(f"/hop/{number}", Content(b""))
        origin.fault(f"/hop/{number}", always=Fault.redirecting(f"/r/{number}"))
        start = b"r" if number % 2 else b"hop"
        requests.append(("redirect", b"GET /%s/%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (start, number, ALLOWED.encode())))
    return requests


def rebinding(dns: dict[str, list[list[str]]]) -> list[tuple[str, bytes]]:
    """Two requests per scripted name: the second meets the second answer."""
    return [
        ("rebinding", b"GET /again%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (time, host.encode()))
        for time in range(2)
        for host in dns
    ]


async def measure(scene: Scene) -> Figure:
    """Send everything to one watched node; judge its answers and what it connected to."""
    dns = scripted_dns(every=scene.size(1, 4))
    watch = Watch(scene.directory / "watch", NETWORK, dns)
    async with Origin() as origin, Origin() as victim:
        origin.add("/right", Content(b"right"))
        async with running_node(
            scene.room("node"),
            allow=(ALLOWED, f"*.{ZONE}"),
            connect_to={ALLOWED: origin.address},
            config=_CONFIG,
            env=watch.env(),
        ) as node:
            assert (await node.get("/right", host=ALLOWED)).status == 200
            asked = await ask_all(node, payloads.requests(ALLOWED, victim.port))
            led = await ask_all(node, redirecting(origin, victim.port) + rebinding(dns))
        faults = judged(watch, asked, led, origin)
        faults += [f"{victim.connections} connections reached the listener that is on no list"] * bool(
            victim.connections
        )
    return figure(asked, led, watch, faults)


def judged(
    watch: Watch,
    asked: list[tuple[str, bytes, tuple[int, ...]]],
    led: list[tuple[str, bytes, tuple[int, ...]]],
    origin: Origin,
) -> list[str]:
    """Everything outside the bar."""
    faults = [f"{form}: {statuses} for {head!r}" for form, head, statuses in asked if any(s >= 500 for s in statuses)]
    faults += [f"{form}: served {head!r}" for form, head, statuses in asked if any(s < 400 for s in statuses)]
    faults += [f"{form}: no answer to {head!r}" for form, head, statuses in (*asked, *led) if not statuses]
    faults += [f"{form}: {statuses} for {head!r}" for form, head, statuses in led if 500 in statuses or 200 in statuses]
    on_list = {("127.0.0.1", origin.port), (PUBLIC, 80), ("2606:4700::1111", 80)}
    connects = {(str(host), int(port)) for host, port in watch.notes("socket.connect")}
    faults += [f"connected to {place}" for place in connects - on_list]
    if ("127.0.0.1", origin.port) not in connects or (PUBLIC, 80) not in connects:
        faults.append("the watch saw no connection where there was one")
    names = {str(note[0]) for note in watch.notes("getaddrinfo")}
    faults += [f"resolved {name!r}" for name in names if not name.endswith(f".{ZONE}")]
    faults += [f"noted {note}" for note in watch.notes(*NETWORK[1:])]
    return faults


def figure(
    asked: list[tuple[str, bytes, tuple[int, ...]]],
    led: list[tuple[str, bytes, tuple[int, ...]]],
    watch: Watch,
    faults: list[str],
) -> Figure:
    """The row's text: how much was sent and how it was answered."""
    answers = Counter(f"{status // 100}xx" for _, _, statuses in asked for status in statuses)
    kinds = Counter(form for form, _, _ in led)
    off = len([fault for fault in faults if fault.startswith("connected")])
    text = (
        f"{len(asked)} payloads ({', '.join(f'{n} {kind}' for kind, n in sorted(answers.items()))}), "
        f"{kinds['redirect']} redirects, {kinds['rebinding']} names to {len(payloads.SPECIAL)} special addresses; "
        f"{len(watch.notes('socket.connect'))} connects, {off} off the list"
    )
    return Figure(text, faults)


ROW = Row(
    "SSRF: cacheHostOrigin, Host, absolute form, redirects, DNS rebinding",
    "0 connects off the list, 0 answers 5xx to payloads",
    measure,
)


@pytest.mark.timeout(180)
async def test_no_host_spelling_redirect_or_dns_answer_leads_off_the_list(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
