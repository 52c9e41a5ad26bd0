"""The generated pages are up to date, and the example is a settings file."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from click.testing import CliRunner

from cacheserver.cli.main import cli
from cacheserver.core import errors
from cacheserver.core.request.service import ServiceTable
from cacheserver.metrics.table import METRICS
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.schema import Settings
from cacheserver.web.admin.app import ROUTES
from tools import reference

ROOT = Path(__file__).resolve().parents[2]


def test_example_file_is_what_the_generator_writes() -> None:
    assert (ROOT / reference.EXAMPLE_PATH).read_text(encoding="utf-8") == reference.render_example()


def test_reference_page_is_what_the_generator_writes() -> None:
    assert (ROOT / reference.REFERENCE_PATH).read_text(encoding="utf-8") == reference.render_reference(cli)


def test_example_as_shipped_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(reference.render_example(), encoding="utf-8")
    assert load_settings(str(path), Flags()) == load_settings(None, Flags())


def test_example_with_every_key_uncommented_is_valid_and_equals_the_defaults(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (?=\[|\"|[a-z_]+ = )", "", reference.render_example())
    path = tmp_path / "example.toml"
    path.write_text(text, encoding="utf-8")
    settings, default = load_settings(str(path), Flags()), load_settings(None, Flags())
    for section in ("allow", "server", "admin", "fill", "log"):
        assert getattr(settings, section) == getattr(default, section)
    assert msgspec.structs.replace(settings.store, volumes=default.store.volumes) == default.store
    assert settings.upstream.connect_to
    assert [service.name for service in settings.own_services()] == ["wsus", "packages"]


IGNORED = ("server.workers",)
"""Accepted and of no effect: in the reference page alone."""


def test_every_setting_is_in_both_pages() -> None:
    example, page = reference.render_example(), reference.render_reference(cli)
    for section in msgspec.structs.fields(Settings):
        if not (isinstance(section.type, type) and issubclass(section.type, msgspec.Struct)):
            continue
        for item in msgspec.structs.fields(section.type):
            assert f"`{section.name}.{item.name}`" in page
            shown = re.search(rf"(?m)^# (?:{item.name} = |\[+{section.name}\.{item.name}\])", example) is not None
            assert shown == (f"{section.name}.{item.name}" not in IGNORED), item.name
    for item in msgspec.structs.fields(ServiceTable):
        assert f"`services.NAME.{item.name}`" in page
        assert item.name in example


def test_every_metric_error_command_and_flag_is_in_the_reference() -> None:
    page = reference.render_reference(cli)
    for doc in METRICS:
        assert f"`{doc.name}`" in page
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")]
    assert len(kinds) > 20
    for kind in kinds:
        assert f"| `{kind.code}` |" in page
    for name, command in cli.commands.items():
        assert f"### cacheserver {name}" in page
        for param in command.params:
            assert all(f"`{flag}`" in page for flag in param.opts if flag.startswith("--"))


def test_every_admin_route_is_in_the_reference() -> None:
    page = reference.render_reference(cli)
    for routes in ROUTES.values():
        for route in routes:
            assert re.search(rf"(?m)^\| .*`{route.method} {re.escape(route.path)}`.* \| (yes|no) \| \w", page), (
                route.path
            )


def test_statuses_of_refusals_are_shown() -> None:
    page = reference.render_reference(cli)
    assert "| `host_not_allowed` | 403 |" in page
    assert "| `method_not_allowed` | 405 |" in page


def test_the_generator_writes_both_files_or_prints_the_page(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(reference.main, ["--write", "--root", str(tmp_path)]).exit_code == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "config/cacheserver.toml",
        "docs/reference.md",
    ]
    assert runner.invoke(reference.main).output == (tmp_path / "docs/reference.md").read_text(encoding="utf-8")
