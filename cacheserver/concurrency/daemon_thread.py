"""Blocking calls that may never return, each in a daemon thread of its own.

Owns: the thread and the way back to the loop. The end of the process waits for none of these threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def in_thread(call: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return or raise what ``call`` does. After a cancellation the thread goes on, and its outcome is dropped."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = call(*arguments)
        except Exception as exc:
            error = exc
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            pass  # the loop is closed: no caller is left

    threading.Thread(target=work, name="daemon call", daemon=True).start()
    return await future
