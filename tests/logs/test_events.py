"""The event log: one ASCII line per record, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.logs import events as log
from cacheserver.logs.events import JsonFormatter, LogOptions, RateLimited, event, get_logger, printable

NASTY = "a\nb\r\x00\x1b[31m\x7f\x85\u2028\u202e\u200b\udcff\U0001f600é"


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("cacheserver")
    before = (list(root.handlers), root.level, own.level, logging.raiseExceptions)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])
    logging.raiseExceptions = before[3]
    logging.captureWarnings(False)


def record(message: object, *args: object, name: str = "cacheserver.x", **attributes: Any) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, "f.py", 1, message, args, attributes.pop("exc_info", None))
    made.__dict__.update(attributes)
    return made


def parsed(line: str | bytes) -> dict[str, Any]:
    text = line if isinstance(line, str) else line.decode("ascii")
    assert text.isascii()
    assert text.isprintable()
    value: dict[str, Any] = json.loads(text)
    return value


def test_message_is_one_ascii_line_whatever_is_in_it() -> None:
    line = parsed(JsonFormatter().format(record("said %s", NASTY)))
    assert line["message"] == f"said {NASTY}"
    assert line["level"] == "info"
    assert line["ts"].endswith("Z")


@given(st.text(), st.dictionaries(st.text(), st.text() | st.floats() | st.none(), max_size=4))
def test_any_event_is_one_parseable_line(text: str, facts: dict[str, object]) -> None:
    parsed(JsonFormatter().format(record(text, event="x" + text, facts=facts)))


def test_message_and_facts_are_bounded() -> None:
    line = parsed(JsonFormatter().format(record("x" * 10_000)))
    assert len(line["message"]) <= log.MESSAGE_LIMIT + 3
    many: dict[str, object] = {f"fact{number}": "y" * 10_000 for number in range(100)}
    text = JsonFormatter().format(record("e", event="e", facts=many))
    assert len(text) < 20_000


def test_no_url_is_logged_with_what_may_be_a_secret() -> None:
    url = "http://user:S3cr3t@h.test/p?sig=S3cr3t"
    try:
        raise ValueError(f"cannot reach {url}")
    except ValueError:
        caught = sys.exc_info()
    made = record("asked %s", url, exc_info=caught)
    fact = record("", event="asked", facts={"url": url, "urls": [url], "table": {"a": url}, "proxy": "u:S3cr3t@h.test"})
    for line in (JsonFormatter(tracebacks=True).format(made), JsonFormatter().format(fact)):
        assert "h.test" in line
        assert "S3cr3t" not in line
    assert printable(f"from {url}") == "from http://h.test/p?(removed)"


def test_facts_do_not_hide_the_members_of_the_line() -> None:
    line = parsed(JsonFormatter().format(record("e", event="e", facts={"level": "anchored", "ts": 1, "piece": 3})))
    assert (line["level"], line["level_"], line["ts_"], line["piece"]) == ("info", "anchored", 1, 3)


def failing() -> Any:
    try:
        raise ValueError("secret?P4=token\nline")
    except ValueError:
        return sys.exc_info()


def test_traceback_is_shown_at_debug_only() -> None:
    plain = parsed(JsonFormatter().format(record("e", exc_info=failing())))
    assert plain["error"].startswith("ValueError: ")
    assert "traceback" not in plain
    assert "failing" in parsed(JsonFormatter(tracebacks=True).format(record("e", exc_info=failing())))["traceback"]


def test_error_text_of_other_packages_is_left_out() -> None:
    line = parsed(JsonFormatter().format(record("e", name="aiohttp.server", exc_info=failing())))
    assert line["error"] == "ValueError"


def test_record_with_wrong_arguments_does_not_raise() -> None:
    assert parsed(JsonFormatter().format(record("%d files", "many")))["message"] == "%d files"


def test_fact_that_cannot_be_printed_does_not_raise() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert parsed(JsonFormatter().format(record("e", event="e", facts={"x": Broken()})))["x"] == "Broken"


def test_configured_level_and_format_reach_stderr(restored_logging: None, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # a reload must not double the lines
        log.configure(LogOptions(level="info"))
    logger = get_logger("cacheserver.room")
    event(logger, "piece_bad", piece=3, source="http://a")
    event(logger, "hidden", severity=logging.DEBUG)
    get_logger("other.package").info("not shown")
    get_logger("other.package").warning("shown")
    lines = [parsed(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("event", line.get("message")) for line in lines] == ["piece_bad", "shown"]
    assert (lines[0]["piece"], lines[0]["source"]) == (3, "http://a")


def test_storm_of_one_event_is_cut_and_counted_and_others_pass() -> None:
    now_s = 0.0
    limited = RateLimited(per_s=1.0, burst=3, monotonic_s=lambda: now_s)
    assert [limited.filter(record("m", event="a")) for _ in range(10)] == [True] * 3 + [False] * 7
    assert limited.filter(record("m", event="b"))
    now_s = 1.0
    after = record("m", event="a", facts={})
    assert limited.filter(after)
    assert parsed(JsonFormatter().format(after))["dropped"] == 7
    assert not limited.filter(record("m", event="a"))


def test_messages_made_of_client_bytes_do_not_grow_the_rate_limit_table() -> None:
    limited = RateLimited(per_s=0.0, burst=1, monotonic_s=lambda: 0.0)
    passed = sum(limited.filter(record(f"bad request {number}")) for number in range(5000))
    assert passed <= 1100


def test_printable_escapes_and_cuts() -> None:
    assert printable("plain text") == "plain text"
    assert printable("a\n\u202eb") == "a\\n\\u202eb"
    assert len(printable("x" * 5000)) == log.MESSAGE_LIMIT + 3
    assert printable(NASTY).isascii()
    assert printable(NASTY).isprintable()
