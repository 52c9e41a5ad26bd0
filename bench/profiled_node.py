"""The node with a stopwatch on the steps of a hit: ``python -m bench.profiled_node serve …``, arguments as the node's.

Owns: which function belongs to which room. At the node's end it writes the seconds of each room as JSON to the file
that ``CACHESERVER_BENCH_PROFILE`` names. What came before the first ``WARM_ANSWERS`` answers is left out. The wrappers
make the node slower: how fast it is is measured without them.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.stopwatch import Stopwatch

FILE_VARIABLE = "CACHESERVER_BENCH_PROFILE"
WARM_ANSWERS = 200

CONNECTION, ADMIT, LOOK_UP, DECIDE = "connection, parsing", "admission", "lookup", "decision"
REPLY, DELIVER, ACCOUNT = "reply (head)", "delivery", "account"
FRAMEWORK, HANDLER = "framework (aiohttp)", "handler, between the components"
ROOMS = (CONNECTION, FRAMEWORK, HANDLER, ADMIT, LOOK_UP, DECIDE, REPLY, DELIVER, ACCOUNT)
"""In the order in which a hit passes them."""

_WEB = "cacheserver.web."
STEPS: tuple[tuple[str, str, str], ...] = (
    (f"{_WEB}connection", "ClientConnection.data_received", CONNECTION),
    (f"{_WEB}connection", "ClientConnection._lane_done", CONNECTION),
    (f"{_WEB}lane.lane", "FastLane.take", LOOK_UP),
    (f"{_WEB}lane.lane", "FastLane._answer", DECIDE),
    (f"{_WEB}lane.senders", "PlainSender.send_small", DELIVER),
    (f"{_WEB}lane.senders", "PlainSender.send_medium", DELIVER),
    (f"{_WEB}lane.lane", "FastLane._go_on", DELIVER),
    (f"{_WEB}lane.senders", "PlainSender._writable", DELIVER),
    (f"{_WEB}accounting", "AnswerAccounting.hit", ACCOUNT),
    ("aiohttp.web_protocol", "RequestHandler.start", FRAMEWORK),
    (f"{_WEB}handler", "ContentHandler.__call__", HANDLER),
    (f"{_WEB}handler", "ContentHandler._admit", ADMIT),
    ("cacheserver.fill.lookup", "Lookup.peek", LOOK_UP),
    (f"{_WEB}answer.answering", "Answerer._assess", DECIDE),
    (f"{_WEB}answer.answering", "decide", DECIDE),
    (f"{_WEB}answer.answering", "plan_object_reply", REPLY),
    (f"{_WEB}answer.answering", "object_lines", REPLY),
    (f"{_WEB}answer.answering", "object_cache_status", REPLY),
    (f"{_WEB}answer.answering", "Answerer._hot_entry", HANDLER),
    (f"{_WEB}answer.delivery", "Delivery.send", DELIVER),
    (f"{_WEB}exchange", "Exchange.of", ACCOUNT),
    (f"{_WEB}accounting", "AnswerAccounting.close", ACCOUNT),
)  # fmt: skip
"""Module, function in it, and the room that its time belongs to."""
_ENDS = ("AnswerAccounting.hit", "AnswerAccounting.close")
"""Each answer ends in one of them."""


class Answers:
    """Counts answers; what the watch has seen before the first ``WARM_ANSWERS`` is forgotten."""

    def __init__(self, watch: Stopwatch) -> None:
        self.count = 0
        self._watch = watch
        self._warm = 0

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which ends one answer."""

        def ending(*args: Any, **named: Any) -> Any:
            try:
                return call(*args, **named)
            finally:
                self._one_more()

        return ending

    def _one_more(self) -> None:
        self.count += 1
        if self._warm < WARM_ANSWERS:
            self._warm += 1
            if self._warm == WARM_ANSWERS:
                self.count = 0
                self._watch.reset()


def install(watch: Stopwatch) -> Answers:
    """Wrap every step; RuntimeError for one that the node no longer has."""
    answers = Answers(watch)
    for module, path, room in STEPS:
        owner: Any = importlib.import_module(module)
        *owners, name = path.split(".")
        try:
            for each in owners:
                owner = getattr(owner, each)
            call = vars(owner)[name]
        except (AttributeError, KeyError) as error:
            raise RuntimeError(f"{module} has no {path} any more") from error
        bound_to_class = isinstance(call, classmethod)
        wrapped = watch.wrap(call.__func__ if bound_to_class else call, room)
        if path in _ENDS:
            wrapped = answers.counted(wrapped)
        setattr(owner, name, classmethod(wrapped) if bound_to_class else wrapped)
    return answers


def main() -> None:
    """Run the node's command line with every step on the watch."""
    from cacheserver.cli.main import run

    watch = Stopwatch()
    answers = install(watch)
    try:
        sys.exit(run())
    finally:
        facts = {"answers": answers.count, "rooms": watch.rooms()}
        Path(os.environ[FILE_VARIABLE]).write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
