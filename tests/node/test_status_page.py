"""The status page in a real browser: right numbers, live, by keyboard, with a token, and nothing but text in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.browser import ASK_NOW, DevTools, Tab, chromium_program, running_browser, tab_of
from tests.support.client import RawClient
from tests.support.content import blob
from tests.support.ground import HOST, PIECE, Ground, GroundOptions

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(chromium_program() is None, reason="Chromium is not installed"),
]

GROUND = GroundOptions(config='[[subnets]]\nname = "branch-north"\nnetworks = ["127.0.0.0/8"]\n')
FOCUSED = "(document.activeElement.id || document.activeElement.className || document.activeElement.tagName)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevTools]:
    async with running_browser(tmp_path_factory.mktemp("browser")) as tools:
        yield tools


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: DevTools) -> AsyncIterator[Tab]:
    """A tab that ends without a word in its console, and has asked one host only."""
    async with tab_of(browser) as tab:
        yield tab
        assert tab.complaints() == []
        assert len({url.split("/")[2] for url in tab.requested()}) == 1


async def shown(tab: Tab, ground: Ground) -> None:
    """The page, with numbers on it."""
    await tab.goto("http://{}:{}/".format(*ground.node.admin))
    await tab.until("!document.getElementById('main').hidden")


async def rows(tab: Tab, table: str) -> dict[str, list[str]]:
    """A table's cells by the text of its first column."""
    found: list[list[str]] = await tab.value(
        f"Array.from(document.querySelectorAll('#{table} > tr'), (row) =>"
        " Array.from(row.children, (cell) => cell.textContent))"
    )
    return {first: rest for first, *rest in found}


async def test_the_numbers_of_known_traffic_are_on_the_page(ground: Ground, tab: Tab) -> None:
    body = blob(5001, 3 * PIECE)
    path = ground.add(body)
    for _ in range(4):
        assert (await ground.get(path)).body == body
    assert (await ground.node.get("/x?cacheHostOrigin=unknown.example.org")).status == 403
    await ground.node.wait_answered("/x")
    await ground.node.wait_answered(path, 4)
    await shown(tab, ground)
    assert await tab.text("#total-out") == "12.0 MiB since the start"
    assert await tab.text("#total-in") == "3.00 MiB since the start"
    assert await tab.text("#total-answers") == "5 since the start"
    assert await tab.text("#ratio") == "75 %"
    services, subnets, outcomes = await rows(tab, "services"), await rows(tab, "subnets"), await rows(tab, "outcomes")
    assert services[HOST][1:] == ["12.0 MiB", "3.00 MiB", "75 %"]
    assert subnets == {"branch-north": [subnets["branch-north"][0], "12.0 MiB", "5"]}
    assert outcomes["hit"] == ["3", "9.00 MiB"]
    assert outcomes["miss"] == ["1", "3.00 MiB"]
    assert outcomes["refused"][0] == "1"
    assert str(ground.node.cache_dir) in await tab.text("#volumes")
    assert "of 1.00 GiB" in await tab.text("#volumes")
    assert "in use, 1 object" in await tab.text("#volumes")
    assert await tab.text("#fills-note") == "Nothing is being fetched."
    assert await tab.text("#bans-note") == "No source is banned."
    assert await tab.text("#pins") == "Nothing is pinned."
    assert await tab.text("#certificate") == "No listener speaks HTTPS."
    assert await tab.text("#state") == "ready"


async def test_rates_come_with_the_next_readings_and_the_chart_follows(ground: Ground, tab: Tab) -> None:
    body = blob(5002, 2 * PIECE)
    path = ground.add(body)
    await shown(tab, ground)
    assert (await ground.get(path)).body == body
    await ground.node.wait_answered(path)
    await tab.value(ASK_NOW)
    await tab.until("/[kMG]bit/.test(document.getElementById('rate-out').textContent)")
    assert "bit/s" in await tab.text("#rate-in")
    points = "document.querySelector('#traffic .line.out').getAttribute('d')"
    assert "NaN" not in await tab.value(points)
    assert "to clients and" in await tab.value("document.getElementById('traffic').getAttribute('aria-label')")
    assert "bit/s" in (await rows(tab, "services"))[HOST][0]


async def test_a_fill_is_followed_to_its_end(ground: Ground, tab: Tab) -> None:
    body = blob(5003, 4 * PIECE)
    path = ground.add(body, name="feature-update.esd")
    gate = ground.origin.gate(path, at=PIECE)
    await shown(tab, ground)
    async with RawClient(*ground.node.content) as client:
        response = await client.start("GET", path, host=HOST)
        await client.read_body(response, PIECE)
        await tab.value(ASK_NOW)
        await tab.until("document.querySelector('#fills > li')?.textContent.includes('25 %')")
        text = await tab.text("#fills > li")
        assert f"{HOST}{path}" in text
        assert f"1.00 MiB of 4.00 MiB from {HOST}, 1 request, 1 client is waiting" in text
        bar = "document.querySelector('#fills [role=progressbar]')"
        assert await tab.value(f"['min', 'now', 'max'].map((end) => +{bar}.getAttribute(`aria-value${{end}}`))") == [
            0, PIECE, 4 * PIECE,
        ]  # fmt: skip
        assert await tab.value(f"{bar}.firstElementChild.offsetWidth / {bar}.offsetWidth") == pytest.approx(
            0.25, abs=0.01
        )
        assert await tab.text("#fill-count") == "1"
        gate.open()
        assert (await client.finish(response)).body == body
    await ground.origin.wait_done(path)
    await tab.value(ASK_NOW)
    await tab.until("document.getElementById('fills-note').textContent === 'Nothing is being fetched.'")


async def test_a_refusal_says_what_to_add_and_stays_the_same_element(ground: Ground, tab: Tab) -> None:
    target = "/y?cacheHostOrigin=packages.example.org"
    await ground.node.get(target)
    await ground.node.wait_answered("/y")
    await shown(tab, ground)
    entry = "Array.from(document.querySelectorAll('#refusals > li')).find((li) => li.textContent.includes('packages.'))"
    await tab.value(f"(window.kept = {entry}, getSelection().selectAllChildren(kept.querySelector('code')))")
    assert await tab.value("kept.querySelector('.name').textContent") == "packages.example.org: host not allowed"
    assert str(await tab.value("kept.querySelector('.n').textContent")).startswith("1 time, ")
    await ground.node.get(target)
    await ground.node.wait_answered("/y", 2)
    await tab.value(ASK_NOW)
    await tab.until("kept.textContent.includes('2 times')")
    assert await tab.value(f"kept === {entry}")
    assert await tab.value("getSelection().toString()") == 'allow = ["packages.example.org"]'


async def test_everything_can_be_reached_and_used_by_keyboard(ground: Ground, tab: Tab) -> None:
    await shown(tab, ground)
    usable = (
        "Array.from(document.querySelectorAll('a, button, input, summary, [tabindex]')).filter((e) => e.offsetParent)"
    )
    assert await tab.value(f"{usable}.map((e) => e.id || e.className)") == ["skip", "pause", "main"]
    await tab.press("Tab")
    assert await tab.value(FOCUSED) == "skip"
    assert await tab.value("document.activeElement.getBoundingClientRect().left >= 0")
    await tab.press("Tab")
    assert await tab.value(FOCUSED) == "pause"
    await tab.press("Tab", shift=True)
    await tab.press("Enter")
    assert await tab.value(FOCUSED) == "main"
    await tab.press("Tab", shift=True)
    assert await tab.value(FOCUSED) == "pause"
    outline = await tab.value("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await tab.press(" ")
    assert await tab.value("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    assert await tab.text("#state") == "paused"
    await tab.press("Enter")
    await tab.until("document.getElementById('state').textContent === 'ready'")


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (768, 1024), (1280, 900)])
async def test_nothing_sticks_out_at_any_width(ground: Ground, tab: Tab, width: int, height: int) -> None:
    await tab.size(width, height, phone=width < 500)
    await shown(tab, ground)
    assert await tab.value("document.documentElement.scrollWidth") <= width
    wide = "Array.from(document.querySelectorAll('main *')).filter((e) => e.getBoundingClientRect().right > innerWidth)"
    assert await tab.value(f"{wide}.map((e) => e.outerHTML)") == []
    cut = "Array.from(document.querySelectorAll('.number, td, th')).filter((e) => e.scrollWidth > e.clientWidth + 1)"
    assert await tab.value(f"{cut}.map((e) => e.outerHTML)") == []


async def test_the_page_is_dark_where_the_reader_wants_it(ground: Ground, tab: Tab) -> None:
    colours = []
    for dark in (False, True):
        await tab.size(1280, 900, dark=dark)
        await shown(tab, ground)
        colours.append(await tab.value("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(243, 245, 248)", "rgb(17, 22, 29)"]
