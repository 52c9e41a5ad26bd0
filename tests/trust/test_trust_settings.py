"""The trust section of the settings: what is refused, and where the refusal points."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.settings.load import Flags, load_settings
from cacheserver.trust.https_json import check_base_url
from cacheserver.trust.options import TrustOptions

KEY = to_base64(bytes(range(32)))


def loaded(tmp_path: Path, text: str) -> TrustOptions:
    path = tmp_path / "c.toml"
    path.write_text(f"[trust]\n{text}\n")
    return load_settings(str(path), Flags()).trust


def test_nothing_leaves_the_site_by_default() -> None:
    trust = load_settings(None, Flags()).trust
    assert (trust.content_policy, trust.edge_cdp, trust.catalogues) == (False, False, ())
    assert trust.names
    assert trust.digest_fields


def test_catalogues_are_taken_from_the_directory_of_the_settings(tmp_path: Path) -> None:
    trust = loaded(tmp_path, f"catalogues = ['c.json', '/d.json']\ncatalogue_keys = ['{KEY}']")
    assert trust.catalogues == (f"{tmp_path}/c.json", "/d.json")


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("catalogues = ['c.json']", "catalogues", "needs trust.catalogue_keys"),
        (f"catalogue_keys = ['{KEY}', 'x']", "catalogue_keys[1]", "not an Ed25519 public key"),
        ("ca_file = '/no/such/file'", "ca_file", "no such file"),
        ("content_policy_url = 'http://a.example'", "content_policy_url", "is not https://"),
        ("content_policy_keyvalue = 'http://a.example/all'", "content_policy_keyvalue", "is not https://"),
        ("content_policy_keyvalue = 'https://a.example'", "content_policy_keyvalue", "is not https://"),
        ("edge_cdp_url = 'https://a.example/path'", "edge_cdp_url", "is not https://"),
        ("content_policy_path = '/x'", "content_policy_path", "{url}"),
        ("content_policy_path = '{url}'", "content_policy_path", "begins with /"),
        ("content_policy_path = '/{url}#x'", "content_policy_path", "path and query"),
        ("content_policy_path = '/{url} x'", "content_policy_path", "path and query"),
        ("edge_cdp_path = '/{product}'", "edge_cdp_path", "{version}"),
        ("edge_cdp_pattern = '('", "edge_cdp_pattern", "regular expression"),
        ("edge_cdp_pattern = '(?P<product>([a-z]+-?)+)/(?P<version>1)'", "edge_cdp_pattern", "for ever"),
        ("edge_cdp_pattern = '(?P<product>x)'", "edge_cdp_pattern", "no group version"),
        ("deadline_s = 0", "deadline_s", "> 0"),
        ("deadline_s = 9", "deadline_s", "<= 8"),
        ("content_policy_hash_field = ''", "content_policy_hash_field", "length"),
        ("content_policy = 'yes'", "content_policy", "bool"),
    ],
)
def test_wrong_setting_is_refused_with_its_line_and_key(text: str, key: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert caught.value.key == f"trust.{key}"
    assert caught.value.where == f"{tmp_path}/c.toml:2"
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://A.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_base_is_scheme_host_and_port(text: str, canonical: str) -> None:
    assert check_base_url(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.example",
        "http://a.example",
        "HTTPS://a.example",
        "https://",
        "https://u@a.example",
        "https://a.example?x",
        "https://a.example#x",
        "https://a.example//",
        "https://a.example:0",
        "https://a b",
        "https://a.example\n",
        "https://ex\u00e4mple",
    ],
)
def test_other_bases_are_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_base_url(text)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
