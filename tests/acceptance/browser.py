"""A headless Chromium that downloads a file by a click on a page, each time with a new profile.

Owns the DevTools commands that a download needs; the browser itself is ``support.browser``'s.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.acceptance.lab import COMMAND_TIMEOUT_S, OWN_HOST, Case, ClientFailed, Lab
from tests.support.browser import FLAGS, BrowserFailed, chromium_program, running_browser, tab_of

_PAGE = '<!doctype html><title>files</title><a id="file" href="/browser/payload.bin" download>payload</a>\n'


async def chromium_download(lab: Lab, source: Path) -> Case:
    """Load a page in Host form, click its link, wait for the file."""
    case = Case("Chromium, headless, a click on a link, Host form", "chromium")
    path = lab.add("/browser/payload.bin", source)
    (lab.origin.root / "browser" / "page.html").write_text(_PAGE)
    for name in ("cold", "warm"):
        folder = lab.folder(f"browser-{name}")
        async with lab.run(case, name, [path]):
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await _download(lab, case, folder)
        lab.check(path, folder / "payload.bin")
    lab.expect_once_then_never(case)
    return case


async def _download(lab: Lab, case: Case, folder: Path) -> None:
    rules = f"--host-resolver-rules=MAP {OWN_HOST} {lab.node_address}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    shown = " ".join(["chromium", *FLAGS, f"'{lab.shown(rules)}'", "--user-data-dir=PROFILE"])
    if shown not in case.commands:
        case.commands.append(shown)
    try:
        async with running_browser(folder, [rules]) as tools, tab_of(tools) as tab:
            await tools.call(
                "Browser.setDownloadBehavior",
                behavior="allow",
                browserContextId=tab.context,
                downloadPath=str(folder),
                eventsEnabled=True,
            )
            await tab.goto(f"http://{OWN_HOST}/browser/page.html")
            clicked = "document.getElementById('file').click()"
            answer = await tab.call("Runtime.evaluate", expression=clicked, userGesture=True)
            if "exceptionDetails" in answer:
                raise ClientFailed("the page has not come")
            ended = await tools.event(
                "Browser.downloadProgress",
                wanted=lambda progress: progress["state"] != "inProgress",
                within_s=COMMAND_TIMEOUT_S,
            )
            if ended["state"] != "completed":
                raise ClientFailed(f"the download was {ended['state']}")
    except BrowserFailed as exc:
        raise ClientFailed(str(exc)) from exc


__all__ = ["chromium_download", "chromium_program"]
