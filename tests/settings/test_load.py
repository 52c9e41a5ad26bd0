"""Settings: what wins, what is refused, and where the refusal points."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.schema import Settings

TOKEN = "0123456789abcdef"


def loaded(tmp_path: Path, text: str, flags: Flags | None = None) -> Settings:
    path = tmp_path / "cacheserver.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(str(path), flags or Flags())


def refusal(tmp_path: Path, text: str, flags: Flags | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, flags)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isascii()
    return caught.value


def test_no_file_and_no_flag_gives_port_8080_and_the_users_cache_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = load_settings(None, Flags())
    assert settings.server.listen == ("0.0.0.0:8080",)
    assert [volume.path for volume in settings.store.volumes] == [f"{tmp_path}/cacheserver"]
    assert settings.own_services() == ()
    assert len(settings.all_services()) >= 5


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_without_an_absolute_xdg_directory_the_cache_is_below_home(
    value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert load_settings(None, Flags()).store.volumes[0].path == f"{tmp_path}/.cache/cacheserver"


# -- refusals: (text, line, key, part of the message) -----------------------------------------------------------

REFUSED = [
    ("x = 1\n", 1, "x", "unknown setting"),
    ("\n[stroe]\n", 2, "stroe", "unknown section; did you mean store?"),
    ("[store]\npiece_sise = '1MiB'\n", 2, "store.piece_sise", "did you mean piece_size?"),
    ("[store]\nio_threads = 'four'\n", 2, "store.io_threads", "expected int, got str"),
    ("[store]\nio_threads = true\n", 2, "store.io_threads", "expected int, got bool"),
    ("[store]\nio_threads = 0\n", 2, "store.io_threads", ">= 1"),
    ("[fill]\nlinger_s = nan\n", 2, "fill.linger_s", ">= 0"),
    ("[fill]\nlinger_s = inf\n", 2, "fill.linger_s", "<= 60"),
    ("[fill]\n\nkeep_until = 'x\\n'\n", 3, "fill.keep_until", "invalid enum value"),
    ("[fill]\n\nkeep_until = \"\\u202e\"\n", 3, "fill.keep_until", "enum value '...'"),
    ("store = 1\n", 1, "store", "expected table, got int"),
    ("[[store.volumes]]\npath='/a'\n[[store.volumes]]\nmax_size='1GiB'\n", 3, "store.volumes[1].path", "is missing"),
    ("[[store.volumes]]\npath='/a'\n[[store.volumes]]\npath=''\n", 4, "store.volumes[1].path", "length >= 1"),
    ("[[store.volumes]]\npath='/a'\nmax_size='100XB'\n", 3, "store.volumes[0].max_size", "unknown unit"),
    ("[[store.volumes]]\npath='/a'\nmax_size='4KiB'\n", 3, "store.volumes[0].max_size", "from 1MiB"),
    ("store.volumes = [\n {path='/a'},\n {path='/a/b'}]\n", 3, "store.volumes[1].path", "another volume"),
    ("[log]\naccess_file='/a\\u0000'\n".replace("'", '"'), 2, "log.access_file", "control character"),
    ("[tls]\nkey='/a\\u0000'\n".replace("'", '"'), 2, "tls.key", "control character"),
    ("[[store.volumes]]\npath='/a\\u0000'\n".replace("'", '"'), 2, "store.volumes[0].path", "control character"),
    ("[store]\npiece_size = '3MiB'\n", 2, "store.piece_size", "power of two"),
    ("[store]\npiece_size = '32KiB'\n", 2, "store.piece_size", "from 64KiB to 16MiB"),
    ("[store]\npiece_size = '32MiB'\n", 2, "store.piece_size", "from 64KiB to 16MiB"),
    ("[store]\npiece_size = '0'\n", 2, "store.piece_size", "from 64KiB to 16MiB"),
    ("[store]\npiece_size = '4MiB'\nextent = '6MiB'\n", 3, "store.extent", "multiple"),
    ("[store]\nextent = '0'\n", 2, "store.extent", "from 1MiB"),
    ("[store]\npiece_size = '64KiB'\nextent = 'big'\n", 3, "store.extent", "not a size"),
    ("[server]\nlisten = []\n", 2, "server.listen", "at least one"),
    ("[server]\nlisten = [\n'0.0.0.0:80',\n'::1:80']\n", 4, "server.listen[1]", "brackets"),
    ("[server]\nlisten = ['[::]:80', '[::]:80']\n", 2, "server.listen[1]", "already"),
    ("[server]\nmax_head = '2MiB'\n", 2, "server.max_head", "from 1KiB to 1MiB"),
    ("[server]\nturn = '0'\n", 2, "server.turn", "from 16KiB"),
    ("[fill]\nspool_bytes = 'x'\n", 2, "fill.spool_bytes", "not a size"),
    ("[fill]\nspool_bytes = 5\n", 2, "fill.spool_bytes", "expected str, got int"),
    ("[admin]\nlisten = '0.0.0.0:9000'\n", 2, "admin.listen", "set admin.token"),
    ("[admin]\ntoken = '0123456789abcde'\n", 2, "admin.token", "shorter than 16"),
    ("[admin]\ntoken = '01234567 9abcdef'\n", 2, "admin.token", "visible ASCII"),
    ("[log]\nlevel = 'loud'\n", 2, "log.level", "invalid enum value"),
    ("[upstream]\nca_file = '/no/such/file'\n", 2, "upstream.ca_file", "no such file"),
    ("[server]\nlisten_tls = ['127.0.0.1:443']\n[tls]\nkey = 'k'\n", 3, "tls.certificate", "needed for"),
    ("[tls]\nnames = ['ok.example',\n'a b']\n", 3, "tls.names[1]", "neither a host name"),
    ("[tls]\n\ncheck_s = 0\n", 3, "tls.check_s", "> 0"),
    ("[upstream.connect_to]\n'a.example' = 1\n", 2, 'upstream.connect_to."a.example"', "expected str, got int"),
    ("[upstream.connect_to]\n'a.example' = 'b.example:80'\n", 2, 'upstream.connect_to."a.example"', "not an IP"),
    ("[upstream.connect_to]\n'a.example' = '127.0.0.1'\n", 2, 'upstream.connect_to."a.example"', "not ADDR:PORT"),
    ("[upstream.connect_to]\n'a b' = '127.0.0.1:1'\n", 2, 'upstream.connect_to."a b"', "not HOST"),
    ("allow = ['ok.example', '*']\n", 1, "allow[1]", "open proxy"),
    ("allow = ['a b']\n", 1, "allow[0]", "'a...' is not HOST"),
    ("allow = ['a.example:1', 'a.example:2']\n", 1, "allow[1]", "allowed twice"),
    ("[[subnets]]\nname='a b'\nnetworks=['10.0.0.0/8']\n", 2, "subnets[0].name", "1 to 40 letters"),
    ("[[subnets]]\nname='other'\nnetworks=['10.0.0.0/8']\n", 2, "subnets[0].name", "or is other"),
    ("[[fairness.shared]]\nnetworks=['10.0.0.1/8']\nclients=2\n", 2, "fairness.shared[0].networks[0]", "host bits"),
    ("[[fairness.shared]]\nnetworks=[]\nclients=2\n", 2, "fairness.shared[0].networks", "is empty"),
    ("[[fairness.shared]]\nnetworks=['::/0']\nclients=0\n", 3, "fairness.shared[0].clients", ">= 1"),
    (
        "[fairness]\nshared=[{networks=['::1'], clients=2},\n{networks=['::1'], clients=3}]\n",
        3,
        "fairness.shared[1].networks[0]",
        "already",
    ),
    ("[[subnets]]\nname='a'\nnetworks=[]\n", 3, "subnets[0].networks", "is empty"),
    ("[[subnets]]\nname='a'\nnetworks=['10.0.0.1/8']\n", 3, "subnets[0].networks[0]", "host bits"),
    ("[[subnets]]\nname='a'\n", 1, "subnets[0].networks", "is missing"),
    ("subnets = [{name='a', networks=['::/0']},\n{name='a', networks=['::1']}]\n", 2, "subnets[1].name", "twice"),
    ("subnets = [{name='a', networks=['::1']},\n{name='b', networks=['::1']}]\n", 2, "subnets[1].networks[0]", "a al"),
    ("".join(f"[[subnets]]\nname='a{n}'\nnetworks=['::{n:x}']\n" for n in range(1025)), 1, "subnets", "most 1024"),
    ("[services.any]\nhosts = ['*']\n", 2, "services.any.hosts[0]", "open proxy"),
    ("[services]\nany = 1\n", 2, "services.any", "expected table, got int"),
    ("[services.any]\n\nhost = ['a.example']\n", 3, "services.any.host", "unknown field"),
    ("[services.ok]\nhosts=['a.example']\n[services.any]\nquery='keep'\n", 3, "services.any.hosts", "required field"),
    ("[services.'a.b']\nhosts=['a.example']\nquery = 'all'\n", 3, 'services."a.b".query', "nvalid enum"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "part"), REFUSED)
def test_wrong_setting_is_refused_with_its_line_and_key(
    text: str, line: int, key: str, part: str, tmp_path: Path
) -> None:
    error = refusal(tmp_path, text)
    assert error.key == key
    assert error.where == f"{tmp_path}/cacheserver.toml:{line}"
    assert str(error).startswith(f"{error.where}: {key}: ")
    assert part in str(error)


def test_default_that_clashes_with_the_file_is_named_without_a_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[server]\nlisten = ['127.0.0.1:8081']\n")
    assert (error.where, error.key) == (f"{tmp_path}/cacheserver.toml", "admin.listen")


SYNTAX = [
    (b"a = 1\nb\nc = 2\n", 2),
    (b"a = 1\na = 2\n[x]\n", 2),
    (b"[store]\n[store]\n", 2),
    (b"# one\nx = '''\n", 2),
    (b"a = 1\nb = \xff\n", 2),
    (b"a = " + b"[" * 5000, 0),
    (b"a = " + b"9" * 5000, 0),
]


@pytest.mark.parametrize(("raw", "line"), SYNTAX)
def test_text_that_is_no_toml_is_refused_with_its_line(raw: bytes, line: int, tmp_path: Path) -> None:
    path = tmp_path / "cacheserver.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load_settings(str(path), Flags())
    assert caught.value.where == (f"{path}:{line}" if line else str(path))
    assert "\n" not in str(caught.value)


def test_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    for path in (str(tmp_path / "missing.toml"), str(tmp_path), "a\0b"):
        with pytest.raises(ConfigError, match="cannot read the file"):
            load_settings(path, Flags())


def test_what_is_too_long_for_settings_is_refused(tmp_path: Path) -> None:
    long = tmp_path / "long.toml"
    long.write_bytes(b"#" * (4 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        load_settings(str(long), Flags())


def test_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        load_settings("/dev/zero", Flags())


def test_byte_order_mark_of_an_editor_is_accepted(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeff[store]\nio_threads = 2\n").store.io_threads == 2


# -- flags ------------------------------------------------------------------------------------------------------


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        "allow = ['a.example']\n[server]\nlisten = ['127.0.0.1:1']\n[log]\nlevel = 'error'\naccess = false\n"
        "[upstream.connect_to]\n'x.example' = '192.0.2.1:80'\n",
        Flags(
            listen=("127.0.0.1:2", "[::1]:2"),
            admin_listen="",
            cache_dir=str(tmp_path / "cache"),
            max_size="2GiB",
            allow=("b.example",),
            connect_to=("y.example=127.0.0.1:9001", "z.example:8080=[::1]:9001"),
            log_level="debug",
        ),
    )
    assert settings.server.listen == ("127.0.0.1:2", "[::1]:2")
    assert settings.admin.listen == ""
    assert [(volume.path, volume.max_size) for volume in settings.store.volumes] == [(str(tmp_path / "cache"), "2GiB")]
    assert settings.allow == ("a.example", "b.example")
    assert settings.upstream.connect_to == {
        "x.example": "192.0.2.1:80",
        "y.example": "127.0.0.1:9001",
        "z.example:8080": "[::1]:9001",
    }
    assert (settings.log.level, settings.log.access) == ("debug", False)


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        (Flags(listen=("8080",)), "--listen"),
        (Flags(admin_listen="nonsense"), "--admin-listen"),
        (Flags(admin_listen="0.0.0.0:9000"), "--admin-listen"),
        (Flags(cache_dir=""), "--cache-dir"),
        (Flags(cache_dir="a\nb"), "--cache-dir"),
        (Flags(max_size="much"), "--max-size"),
        (Flags(max_size="1KiB"), "--max-size"),
        (Flags(allow=("*",)), "--allow"),
        (Flags(allow=("ok.example", "a/b")), "--allow"),
        (Flags(connect_to=("a.example",)), "--connect-to"),
        (Flags(connect_to=("=127.0.0.1:1",)), "--connect-to"),
        (Flags(connect_to=("a.example=127.0.0.1:0",)), "--connect-to"),
        (Flags(log_level="loud"), "--log-level"),
    ],
)
def test_wrong_flag_is_named(flags: Flags, where: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, "", flags).where == where


def test_max_size_does_not_choose_among_several_volumes(tmp_path: Path) -> None:
    text = "[[store.volumes]]\npath = '/a'\n[[store.volumes]]\npath = '/b'\n"
    assert refusal(tmp_path, text, Flags(max_size="1GiB")).where == "--max-size"


def test_cache_dir_keeps_the_size_of_the_only_volume(tmp_path: Path) -> None:
    text = "[[store.volumes]]\npath = '/a'\nmax_size = '7GiB'\n"
    assert loaded(tmp_path, text, Flags(cache_dir="/b")).store.volumes[0].max_size == "7GiB"


def test_relative_volume_is_taken_from_the_directory_of_the_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, "[[store.volumes]]\npath = 'c'\n").store.volumes[0].path == str(tmp_path / "c")


# -- services and the admin token -------------------------------------------------------------------------------


def test_admin_may_listen_anywhere_with_a_token(tmp_path: Path) -> None:
    settings = loaded(tmp_path, f"[admin]\nlisten = '0.0.0.0:9000'\ntoken = '{TOKEN}'\n")
    assert settings.admin.token == TOKEN


def test_own_services_come_first_and_replace_the_shipped_one_of_their_name(tmp_path: Path) -> None:
    shipped = load_settings(None, Flags()).all_services()
    name = shipped[1].name
    settings = loaded(tmp_path, f"[services.'{name}']\nhosts = ['a.example']\n", Flags(allow=("b.example",)))
    services = settings.all_services()
    assert [service.own for service in services[:2]] == [True, True]
    assert services[0].hosts == ("a.example",)
    assert services[1].hosts == ("b.example",)
    assert [service.name for service in services[2:]] == [each.name for each in shipped if each.name != name]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load_settings(None, Flags()).server = msgspec.UNSET  # type: ignore[misc, assignment]


@pytest.mark.parametrize("flags", [Flags(), Flags(cache_dir="~/cache")], ids=["default", "flag"])
def test_a_user_without_a_home_is_told_to_name_the_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: Flags
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where neither HOME nor a user entry exists
    with pytest.raises(ConfigError, match="no home directory"):
        load_settings(None, flags)
    assert not list(tmp_path.iterdir())
