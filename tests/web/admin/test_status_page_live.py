"""The status page in a real browser before a node that a test makes up: hostile names, token, faults."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cacheserver.web.options import AdminOptions
from tests.support.browser import ASK_NOW, DevTools, Tab, chromium_program, running_browser, tab_of
from tests.web.admin.test_app import TOKEN, admin

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(chromium_program() is None, reason="Chromium is not installed"),
]

EVIL = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>&amp;\u202e"
SHOWN = "!document.getElementById('main').hidden"
FORM = "!document.getElementById('token-form').hidden"
SEEN = """window.seen = [];
new MutationObserver(() => seen.push(document.getElementById("trouble").textContent))
  .observe(document.getElementById("trouble"), { childList: true });
0"""
"""Keeps every trouble that the page has told."""
GIB = 1 << 30


def overview(name: str = "plain") -> dict[str, Any]:
    """An overview with everything in it, and ``name`` wherever a name can be."""
    row = {"name": name, "requests": 20_000, "response_bytes": 700 * GIB}
    remedy = {"text": name, "setting": f'allow = ["{name}"]'}
    volume = {
        "path": name, "stored_bytes": 400 * GIB, "reserved_bytes": GIB, "capacity_bytes": 450 * GIB,
        "objects": 81_234, "online": True, "writable": True, "errors": 0, "loaded": True, "reconciled": True,
    }  # fmt: skip
    fill = {
        "service": name, "key": name, "host": name, "length_bytes": 4 * GIB, "stored_bytes": GIB,
        "requests": 4, "readers": 3,
    }  # fmt: skip
    return {
        "time_s": 1_800_000_000.0,
        "clock_s": 90_000.0,
        "ready": False,
        "reasons": [name],
        "traffic": {
            "requests": 20_000, "response_bytes": 700 * GIB, "served_bytes": 700 * GIB, "upstream_bytes": 70 * GIB,
            "outcomes": [row], "subnets": [row],
            "services": [row | {"served_bytes": 700 * GIB, "upstream_bytes": 70 * GIB}],
        },
        "fills": {"objects": 60, "shown": [fill, fill]},
        "refusals": [
            {"reason": name, "label": name, "host": name, "count": 3, "last_s": 1_799_999_990.0, "remedy": remedy},
            {
                "reason": "loop", "label": "loop", "host": "", "count": 1, "last_s": 1_799_999_000.0,
                "remedy": remedy | {"setting": ""},
            },
        ],
        "node": {
            "version": name, "uptime_s": 90_000.0, "draining": False, "connections": 312, "fills": 8, "tasks": 5,
            "banned_sources": [{"source": name, "seconds_left": 600}],
            "pins": {"objects": 3, "complete": 2, "waiting": 1, "bytes": 9 * GIB},
            "services": [name], "needs_restart": [name],
            "certificate": {
                "subject": name, "names": [name], "days_left": 12.5, "not_after": name, "warnings": [name],
                "refused": name,
            },
            "volumes": [volume, volume | {"path": "/srv/2", "online": False, "writable": False, "errors": 2}],
        },
    }  # fmt: skip


class Told:
    """What the node says; a test may change it, or make it fail."""

    def __init__(self) -> None:
        self.overview: dict[str, Any] | None = overview()
        self.asked = 0

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if self.overview is None:
            raise RuntimeError("not now")
        self.overview["clock_s"] += 2
        return copy.deepcopy(self.overview)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevTools]:
    async with running_browser(tmp_path_factory.mktemp("browser")) as tools:
        yield tools


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: DevTools) -> AsyncIterator[Tab]:
    async with tab_of(browser) as tab:
        yield tab


async def test_names_are_shown_as_text_whatever_they_hold(tab: Tab) -> None:
    told = Told()
    told.overview = overview(EVIL)
    async with admin(overview=told) as (_session, base):
        await tab.goto(base)
        await tab.until(SHOWN)
        await tab.value(ASK_NOW)
        await tab.until("document.getElementById('rate-out').textContent !== '–'")
        assert await tab.value("window.pwned ?? null") is None
        assert await tab.value("document.scripts.length + document.images.length") == 1
        for place in ("about", "state", "restart", "services", "subnets", "outcomes", "volumes", "fills", "refusals",
                      "bans", "certificate", "certificate-names", "certificate-notes"):  # fmt: skip
            text = await tab.value(f"document.getElementById('{place}').textContent")
            assert EVIL in text, place
        assert await tab.value("document.querySelector('#refusals code').textContent") == f'allow = ["{EVIL}"]'
    assert tab.complaints() == []
    assert {url for url in tab.requested() if not url.startswith(base)} == set()


async def test_an_inline_script_would_not_run(tab: Tab) -> None:
    async with admin(overview=Told()) as (_session, base):
        await tab.goto(base)
        await tab.until(SHOWN)
        await tab.value(
            "new Promise((resolve) => {"
            " document.addEventListener('securitypolicyviolation', resolve, { once: true });"
            " const made = document.createElement('script'); made.textContent = 'window.pwned = 3';"
            " document.body.append(made); }).then(() => 1)"
        )
        assert await tab.value("window.pwned ?? null") is None
    assert tab.complaints() != []


async def test_what_is_wrong_with_the_node_stands_out(tab: Tab) -> None:
    told = Told()
    async with admin(overview=told) as (_session, base):
        await tab.goto(base)
        await tab.until(SHOWN)
        assert await tab.text("#state") == "plain"
        assert "bad" in await tab.value("document.getElementById('state').className")
        assert "offline, 81,234 objects, 2 disk errors" in await tab.text("#volumes > li:nth-child(2)")
        assert "400 GiB" not in await tab.text("#volumes > li:first-child")
        assert "401 GiB of 450 GiB" in await tab.text("#volumes > li:first-child")
        assert await tab.text("#bans") == "plain\n10 min left"
        assert await tab.text("#certificate") == "plain: 12 days left"
        assert "refused: plain" in await tab.text("#certificate-notes")
        assert await tab.text("#pins") == "3 objects, 9.00 GiB, 1 not complete yet"
        assert await tab.text("#fills-note") == "and 58 more objects"
        assert await tab.value("document.querySelectorAll('#fills > li').length") == 2
        assert "3 times, 10 s ago" in await tab.text("#refusals > li:first-child")
    assert tab.complaints() == []


async def test_a_banner_names_the_settings_that_wait_for_a_restart_and_goes_with_it(tab: Tab) -> None:
    told = Told()
    assert told.overview is not None
    told.overview["node"]["needs_restart"] = ["server.listen", "log.access"]
    banner = "!document.getElementById('restart').hidden"
    async with admin(AdminOptions(token=TOKEN), overview=told) as (_session, base):
        await tab.goto(base)
        await tab.until(FORM)
        assert not await tab.value(banner), "nothing is told before the token"
        await tab.write(TOKEN)
        await tab.press("Enter")
        await tab.until(SHOWN)
        assert await tab.value(banner)
        assert "server.listen, log.access" in await tab.text("#restart")
        told.overview["node"]["needs_restart"] = []
        await tab.value(ASK_NOW)
        await tab.until(f"!({banner})")
    assert [complaint for complaint in tab.complaints() if "401" not in complaint] == []


async def test_a_node_that_fails_is_told_and_asked_again(tab: Tab, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    async with admin(overview=told) as (_session, base):
        await tab.goto(base)
        await tab.until(SHOWN)
        asked = told.asked
        await tab.value(SEEN)
        told.overview = None
        for _ in range(5):
            before = told.asked
            await tab.value(ASK_NOW)
            await tab.until(f"seen.length > {before - asked}")
        texts = await tab.value("seen")
        assert texts[0].startswith("Trouble: the node answers 500: internal error. Trying again in 2 s.")
        assert "what it said last" in texts[0]
        assert [int(text.partition("again in ")[2].split()[0]) for text in texts][:5] == [2, 4, 8, 16, 30]
        assert await tab.text("#state") == "no answer"
        told.overview = overview("back")
        await tab.value(ASK_NOW)
        await tab.until("document.getElementById('state').textContent === 'back'")
        assert not await tab.value("!document.getElementById('trouble').hidden")
    assert [complaint for complaint in tab.complaints() if "500" not in complaint] == []
    assert {record.message for record in caplog.records} == {"admin_failed"}


async def test_a_node_that_starts_again_begins_a_new_history(tab: Tab) -> None:
    told = Told()
    assert told.overview is not None
    async with admin(overview=told) as (_session, base):
        await tab.goto(base)
        await tab.until(SHOWN)
        await tab.value(ASK_NOW)
        await tab.until("document.querySelector('#traffic .line.out')")
        told.overview["clock_s"] = 0
        told.overview["traffic"] |= {"requests": 1, "response_bytes": 10, "upstream_bytes": 10}
        await tab.value(ASK_NOW)
        await tab.until("!document.querySelector('#traffic .line.out')")
        assert await tab.text("#rate-out") == "–"
    assert tab.complaints() == []


async def test_the_token_is_asked_for_and_stays_in_the_tab(browser: DevTools, tab: Tab) -> None:
    async with admin(AdminOptions(token=TOKEN), overview=Told()) as (_session, base):
        await tab.goto(base)
        await tab.until(FORM)
        assert await tab.value("document.activeElement.id") == "token"
        await tab.write("wrong-token-wrong-token")
        await tab.press("Enter")
        await tab.until("document.getElementById('token-trouble').textContent.includes('did not accept')")
        assert await tab.value("sessionStorage.length") == 0
        await tab.write("\u00e4")
        await tab.press("Enter")
        await tab.until("document.getElementById('token-trouble').textContent.includes('ASCII')")
        await tab.write(TOKEN)
        await tab.press("Tab")
        await tab.press(" ")
        await tab.until(SHOWN)
        assert await tab.value("[location.href, localStorage.length]") == [f"{base}/", 0]
        assert await tab.call("Network.getCookies") == {"cookies": []}
        assert await tab.value("Object.values(sessionStorage)") == [TOKEN]
        assert await tab.value("document.getElementById('token').value") == ""
        assert await tab.value(f"document.documentElement.outerHTML.includes('{TOKEN}')") is False
        await tab.goto(base)
        await tab.until(SHOWN)
        await tab.value("document.getElementById('forget').click()")
        await tab.until(FORM)
        assert await tab.value("sessionStorage.length") == 0
        assert await tab.value("document.getElementById('main').hidden") is True
        async with tab_of(browser) as other:
            await other.goto(base)
            await other.until(FORM)
        assert not [url for url in tab.requested() if TOKEN in url]
    assert [complaint for complaint in tab.complaints() if "401" not in complaint] == []


async def test_a_paused_page_asks_no_more(tab: Tab) -> None:
    told = Told()
    async with admin(overview=told) as (_session, base):
        await tab.goto(base)
        await tab.until(SHOWN)
        await tab.value("document.getElementById('pause').click()")
        asked = told.asked
        await tab.value(ASK_NOW)
        await tab.value("fetch('healthz').then(() => 1)")
        assert told.asked == asked
        await tab.value("document.getElementById('pause').click()")
        await tab.until("document.getElementById('state').textContent === 'plain'")
        assert told.asked == asked + 1


async def test_the_page_asks_by_itself_every_two_seconds(tab: Tab) -> None:
    told = Told()
    async with admin(overview=told) as (_session, base):
        await tab.goto(base)
        await tab.until("document.querySelector('#traffic .line.out')")
        assert told.asked == 2
