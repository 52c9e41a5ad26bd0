"""A headless Chromium that downloads a file by a click on a page, each time with a new profile.

Owns the browser process and the few DevTools commands that a download needs.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.acceptance.lab import COMMAND_TIMEOUT_S, OWN_HOST, Case, ClientFailed, Lab

_PAGE = '<!doctype html><title>files</title><a id="file" href="/browser/payload.bin" download>payload</a>\n'
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=HttpsUpgrades,OptimizationHints",
    "--remote-debugging-port=0",
)
_LISTENING = b"DevTools listening on "


def chromium_program() -> str | None:
    """The Chromium of this machine."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


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
    async with _browser(lab, case, folder) as tools:
        await tools.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        target = await tools.call("Target.createTarget", url="about:blank")
        attached = await tools.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        session = attached["sessionId"]
        await tools.call("Page.enable", session)
        await tools.call("Page.navigate", session, url=f"http://{OWN_HOST}/browser/page.html")
        await tools.event("Page.loadEventFired")
        clicked = "document.getElementById('file').click()"
        answer = await tools.call("Runtime.evaluate", session, expression=clicked, userGesture=True)
        if "exceptionDetails" in answer:
            raise ClientFailed("the page has not come")
        while (progress := await tools.event("Browser.downloadProgress"))["state"] == "inProgress":
            pass
        if progress["state"] != "completed":
            raise ClientFailed(f"the download was {progress['state']}")
        await tools.call("Browser.close")


class _DevTools:
    """One DevTools connection: commands and the events between them."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        await self._socket.send_json(command if session is None else {**command, "sessionId": session})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == number:
                if "error" in message:
                    raise ClientFailed(f"{method}: {message['error']}")
                result = message["result"]
                assert isinstance(result, dict)
                return result
            self._events.append(message)

    async def event(self, method: str) -> dict[str, Any]:
        """The parameters of the next event of this name."""
        while True:
            for place, message in enumerate(self._events):
                if message.get("method") == method:
                    params = self._events.pop(place)["params"]
                    assert isinstance(params, dict)
                    return params
            self._events.append(await self._socket.receive_json())


@asynccontextmanager
async def _browser(lab: Lab, case: Case, folder: Path) -> AsyncIterator[_DevTools]:
    program = chromium_program()
    assert program is not None, "Chromium is not installed"
    rules = f"--host-resolver-rules=MAP {OWN_HOST} {lab.node_address}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    argv = [*_FLAGS, rules, f"--user-data-dir={folder / 'profile'}"]
    shown = " ".join(["chromium", *_FLAGS, f"'{lab.shown(rules)}'", "--user-data-dir=PROFILE"])
    if shown not in case.commands:
        case.commands.append(shown)
    process = await asyncio.create_subprocess_exec(
        program,
        *argv,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    reader = asyncio.create_task(_read_log(process.stderr, listening))
    try:
        async with aiohttp.ClientSession() as http, http.ws_connect(await listening, max_msg_size=0) as socket:
            yield _DevTools(socket)
    finally:
        if process.returncode is None:
            process.terminate()
        await reader
        await process.wait()


async def _read_log(stderr: asyncio.StreamReader, listening: asyncio.Future[str]) -> None:
    while line := await stderr.readline():
        if line.startswith(_LISTENING) and not listening.done():
            listening.set_result(line.removeprefix(_LISTENING).decode().strip())
    if not listening.done():
        listening.set_exception(ClientFailed("Chromium did not start"))
