"""A headless Chromium with a new profile, driven over DevTools: pages loaded, keys pressed, everything it says kept.

Owns the browser process and its one DevTools connection. Must not know what a page should show.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.flow import PATIENCE_S

FLAGS = (
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
_UNTIL = """new Promise((resolve) => {
  const watch = new MutationObserver(() => look());
  const look = () => { if (%s) { watch.disconnect(); resolve(true); return true; } return false; };
  if (!look()) {
    watch.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  }
})"""
ASK_NOW = "document.dispatchEvent(new Event('visibilitychange')), 0"
"""What makes a page that waits for its next turn look again at once, as on coming back to it."""
_KEYS = {"Tab": 9, "Enter": 13, " ": 32}


class BrowserFailed(AssertionError):
    """Chromium did not start, or refused a command."""


def chromium_program() -> str | None:
    """The Chromium of this machine."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class DevTools:
    """One DevTools connection: commands, and the events between them."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._came = asyncio.Condition()
        self.events: list[dict[str, Any]] = []
        """Every event so far; ``event`` takes those away that it gives."""

    async def read(self) -> None:
        """Sort what comes, until the connection ends."""
        async for frame in self._socket:
            message = json.loads(frame.data)
            waiting = self._waiting.pop(message.get("id", 0), None)
            if waiting is None:
                self.events.append(message)
                async with self._came:
                    self._came.notify_all()
            elif not waiting.done():
                waiting.set_result(message)
        for waiting in self._waiting.values():
            waiting.cancel()

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(command if session is None else {**command, "sessionId": session})
        async with asyncio.timeout(PATIENCE_S):
            message = await answer
        if "error" in message:
            raise BrowserFailed(f"{method}: {message['error']}")
        result = message["result"]
        assert isinstance(result, dict)
        return result

    async def event(
        self,
        method: str,
        session: str | None = None,
        *,
        wanted: Callable[[dict[str, Any]], bool] = lambda _: True,
        within_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        """The parameters of the next event of this name that is ``wanted``."""

        def place() -> int | None:
            for number, message in enumerate(self.events):
                right = message.get("method") == method and (session is None or message.get("sessionId") == session)
                if right and wanted(message["params"]):
                    return number
            return None

        async with asyncio.timeout(within_s), self._came:
            await self._came.wait_for(lambda: place() is not None)
        params = self.events.pop(place() or 0)["params"]
        assert isinstance(params, dict)
        return params


class Tab:
    """One page with a storage of its own."""

    def __init__(self, tools: DevTools, session: str, context: str) -> None:
        self._tools = tools
        self.session = session
        self.context = context

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command to this tab."""
        return await self._tools.call(method, self.session, **params)

    async def size(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Show the page at this size, in CSS pixels, and in this colour scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def goto(self, url: str) -> None:
        """Load a page."""
        await self.call("Page.navigate", url=url)
        await self._tools.event("Page.loadEventFired", self.session)

    async def value(self, expression: str) -> Any:
        """What an expression, or the promise that it gives, comes to."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserFailed(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a condition holds; it is looked at whenever the page changes."""
        await self.value(_UNTIL % condition)

    async def text(self, selector: str) -> str:
        """The text that an element shows."""
        return str(await self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def press(self, key: str, *, shift: bool = False) -> None:
        """One key, as from a keyboard."""
        facts = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _KEYS[key]}
        modifiers = 8 if shift else 0
        text = {"Enter": "\r", " ": " "}.get(key)
        typed = {} if text is None else {"text": text}
        await self.call("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **facts, **typed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **facts)

    async def write(self, text: str) -> None:
        """Text into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def screenshot(self, file: Path) -> None:
        """The whole page as PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Console errors and warnings, uncaught exceptions, broken policies: everything that it found fault with."""
        found = []
        for message in self._tools.events:
            if message.get("sessionId") != self.session:
                continue
            method, params = message["method"], message["params"]
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(str(params["args"]))
            elif method in ("Runtime.exceptionThrown", "Audits.issueAdded"):
                found.append(str(params))
        return found

    def requested(self) -> list[str]:
        """URLs that it asked for."""
        return [
            message["params"]["request"]["url"]
            for message in self._tools.events
            if message.get("sessionId") == self.session and message["method"] == "Network.requestWillBeSent"
        ]


@asynccontextmanager
async def tab_of(tools: DevTools) -> AsyncIterator[Tab]:
    """A new tab in a context of its own, closed at the end."""
    context = (await tools.call("Target.createBrowserContext"))["browserContextId"]
    target = await tools.call("Target.createTarget", url="about:blank", browserContextId=context)
    attached = await tools.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    tab = Tab(tools, attached["sessionId"], context)
    for domain in ("Page", "Log", "Runtime", "Audits", "Network"):
        await tab.call(f"{domain}.enable")
    await tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
    try:
        yield tab
    finally:
        await tools.call("Target.disposeBrowserContext", browserContextId=context)


@asynccontextmanager
async def running_browser(folder: Path, flags: Iterable[str] = ()) -> AsyncIterator[DevTools]:
    """A browser with its profile in ``folder``, ended at the end."""
    program = chromium_program()
    assert program is not None, "Chromium is not installed"
    process = await asyncio.create_subprocess_exec(
        program,
        *FLAGS,
        *flags,
        f"--user-data-dir={folder / 'profile'}",
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    reader = asyncio.create_task(_read_log(process.stderr, listening))
    try:
        async with asyncio.timeout(PATIENCE_S):
            address = await listening
        async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
            tools = DevTools(socket)
            sorting = asyncio.create_task(tools.read())
            try:
                yield tools
            finally:
                await tools.call("Browser.close")
                await sorting
    finally:
        if process.returncode is None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await reader
        await process.wait()


async def _read_log(stderr: asyncio.StreamReader, listening: asyncio.Future[str]) -> None:
    while line := await stderr.readline():
        if line.startswith(_LISTENING) and not listening.done():
            listening.set_result(line.removeprefix(_LISTENING).decode().strip())
    if not listening.done():
        listening.set_exception(BrowserFailed("Chromium did not start"))
