"""The start checks aiohttp: what is missing is a refusal that names it, an untested version is one warning."""

from __future__ import annotations

import json

import aiohttp
import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.doctor.context import Context, DoctorOptions
from cacheserver.doctor.machine import config_checks
from cacheserver.logs.events import LogOptions, configure
from cacheserver.node.preflight import check_libraries, warn_of_libraries
from cacheserver.outgoing import aiohttp_parts
from cacheserver.settings.load import Flags, load_settings
from cacheserver.web import aiohttp_adapter


def test_the_installed_aiohttp_has_every_part_and_was_tested(capsys: pytest.CaptureFixture[str]) -> None:
    check_libraries()
    warn_of_libraries()
    assert aiohttp_adapter.untested_version() is None
    assert capsys.readouterr().err == ""


def test_a_part_that_aiohttp_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aiohttp_adapter.RELIED_ON, "_gone", "")
    with pytest.raises(ConfigError, match=r"RequestHandler\._gone"):
        check_libraries()
    monkeypatch.delitem(aiohttp_adapter.RELIED_ON, "_gone")
    monkeypatch.setitem(aiohttp_parts.RELIED_ON, (aiohttp.ClientSession, "_gone_too"), "")
    with pytest.raises(ConfigError, match=r"ClientSession\._gone_too"):
        check_libraries()


def test_an_untested_version_is_one_warning_in_log_and_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aiohttp_adapter, "TESTED_VERSIONS", ("3.14.4",))
    configure(LogOptions())
    warn_of_libraries()
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["level"], line["found"]) == ("library_untested", "warning", aiohttp.__version__)
    library, _file = config_checks(None, Context(load_settings(None, Flags()), DoctorOptions(), lambda: 0.0))
    assert (library.level, library.checked) == ("warn", "aiohttp")
    assert aiohttp.__version__ in library.found
