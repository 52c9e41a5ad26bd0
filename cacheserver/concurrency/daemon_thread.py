"""Blocking calls that may never return, each in a daemon thread of its own.

Owns: the thread. The end of the process waits for none of these threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def in_thread(call: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return or raise what ``call`` does. After a cancellation the thread goes on, and its outcome is dropped."""
    outcome: Future[_Result] = Future()
    outcome.set_running_or_notify_cancel()  # from here on a cancellation does not reach it

    def work() -> None:
        try:
            outcome.set_result(call(*arguments))
        except Exception as exc:
            outcome.set_exception(exc)

    threading.Thread(target=work, name="daemon call", daemon=True).start()
    return await asyncio.wrap_future(outcome)
