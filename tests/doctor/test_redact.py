"""What leaves the machine in a bundle: everything useful, no secret."""

from __future__ import annotations

import json
from urllib.parse import quote

import msgspec
import pytest

from cacheserver.doctor.redact import REMOVED, redact_settings, redact_text, secrets_of
from cacheserver.settings.schema import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /a?P1=1&P4=sig HTTP/1.1", f"GET /a?{REMOVED} HTTP/1.1"),
        ('{"url":"http://h/p?x=1"}', f'{{"url":"http://h/p?{REMOVED}"}}'),
        ("http://user:pw@h/p", "http://h/p"),
        ("Authorization: Bearer abc", f"Authorization: {REMOVED}"),
        ("x Bearer abcdefghij y", f"x Bearer {REMOVED}"),
        ('token = "abc"', f"token = {REMOVED}"),
        ("admin_token: 'a b'", f"admin_token: {REMOVED}"),
        ('{"password":"x"}', f'{{"password":"{REMOVED}"}}'),
        ("what? nothing", "what? nothing"),
        ("piece 7 of 9 matches", "piece 7 of 9 matches"),
        ("a\n-----BEGIN EC PRIVATE KEY-----\nMII\n-----END EC PRIVATE KEY-----\nb", f"a\n{REMOVED}\nb"),
        ("a\n-----BEGIN PRIVATE KEY-----\nMII\ncut", f"a\n{REMOVED}"),
    ],
)
def test_secrets_go_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_known_secrets_go_wherever_they_stand() -> None:
    assert redact_text("xx0123456789xx", {"0123456789"}) == f"xx{REMOVED}xx"


def test_settings_keep_their_shape() -> None:
    tree = {
        "admin": {"token": "0123456789", "listen": "127.0.0.1:8081"},
        "services": {"mine": {"sources": ["http://u:p@h/x?y=1"], "port": 81, "cacheable": True}},
        "api_key": "",
    }
    assert secrets_of(tree) == {"0123456789", ""}
    assert redact_settings(tree, {"127.0.0.9"}) == {
        "admin": {"token": REMOVED, "listen": "127.0.0.1:8081"},
        "services": {"mine": {"sources": [f"http://h/x?{REMOVED}"], "port": 81, "cacheable": True}},
        "api_key": "",
    }


def test_public_keys_of_catalogues_and_names_of_files_stay() -> None:
    tree = {"trust": {"catalogue_keys": ["bm90IHNlY3JldA=="]}, "tls": {"key": "/etc/cacheserver/key.pem"}}
    assert redact_settings(tree) == tree


SECRET = "S3cr3tValue99"
WORDS = ("key", "x-api-key", "Ocp-Apim-Subscription-Key", "cookie", "Set-Cookie", "passphrase", "pwd", "auth", "X-Auth")
SHAPES = (
    "{name}: {value}",
    "> {name}: {value}",
    "    {name} = two words {value}",
    '"{name}": "with \\" quote {value}"',
    '{{"{name}": "{value}"}}',
    '{{"a": [{{"{name}": ["b", "{value}"]}}]}}',
    "curl -H '{name}: {value}' http://h/",
    "http://user:{value}@h/",
    "http://user:a@{value}@h/",
    "http://user:a/{value}@h/",
    "user:{value}@proxy:3128",
    "GET /x?{name}={value}&b=c HTTP/1.1",
    "GET /x#{name}={value} HTTP/1.1",
    "GET /x;{name}={value} HTTP/1.1",
    "GET /x%3F{name}%3D{value} HTTP/1.1",
    "http://h/x?a='{value}'|{value}",
    "http://h/token/{value}/x",
    "{name}: Bearer\t{value}",
    "Basic {value}",
    "sr=x&sig={value}&se=1",
    "AKIAIOSFODNN7EXAMPLE {value}",
    '"-----BEGIN PRIVATE KEY-----\\n{value}\\n-----END PRIVATE KEY-----"',
    "-----BEGIN OPENSSH PRIVATE KEY-----\n{value}",
    "Private-Lines: 1\n{value}",
)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_secret_goes_in_every_structure(shape: str) -> None:
    for name in WORDS:
        for value in (SECRET, "dXNlcjpTM2NyM3RWYWx1ZTk5", "0123456789abcdef0123456789abcdef"):
            assert value not in redact_text(shape.format(name=name, value=value))


@pytest.mark.parametrize(
    "line",
    [
        "2026-12-01T10:24:13.123Z ok 10.0.0.1 fe80::1 [::1]:80 12.5MiB/s HTTP/1.1 aiohttp 3.14.5 /var/cache/x/ab",
        '10.1.2.3 - - [01/Dec/2026:10:24:13 +0000] "GET /c/windows10.0-kb5031356-x64_'
        + "0123456789abcdef" * 2
        + '01234567.cab HTTP/1.1" 206 1048576 "-" "Microsoft-Delivery-Optimization/10.0" hit',
        '{"ts":"2026-12-01T10:24:13.123Z","event":"certificate_loaded","file":"/etc/cacheserver/tls/node.pem",'
        '"fingerprint_sha256":"' + "ab" * 32 + '","days_left":12.5,"warnings":["tls.key: can be read by everyone"]}',
        '{"path":"/filestreamingservice/files/0c4b8a6a-1d0f-4a6a-bb1e-3f6f2a3ddc11","status":206,"cache":"node; hit"}',
        "cacheserver.core.errors.ConfigError: server.listen: is empty",
        '  File "/usr/lib/python3.11/asyncio/base_events.py", line 93, in run_once',
    ],
)
def test_what_says_what_happened_stays(line: str) -> None:
    assert redact_text(line) == line


@pytest.mark.parametrize("secret", ['pa"ss\\w\u00f6rd-1234567890', "abc12", "a b+c/d?e&f"])
def test_a_known_secret_goes_as_json_and_urls_write_it(secret: str) -> None:
    for text in (secret, json.dumps({"x": f"sent {secret}"}), json.dumps(secret), f"{quote(secret, safe='')} was sent"):
        left = redact_text(text, {secret})
        assert REMOVED in left
        for part in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
            assert part not in left


def test_settings_that_no_schema_knows_go_with_all_that_is_in_them() -> None:
    tree = {
        "adminn": {"tokn": SECRET, "on": True},
        "admin": {"listen": 5, "tokn": SECRET, "token": ""},
        "server": {"max_connections": SECRET},
        "services": {"a": {"hosts": ["h.example"], "key": SECRET, "sources": [f"https://h/{SECRET}"]}},
    }
    assert redact_settings(tree) == {
        "adminn": REMOVED,
        "admin": {"listen": REMOVED, "tokn": REMOVED, "token": ""},
        "server": {"max_connections": REMOVED},
        "services": {"a": {"hosts": ["h.example"], "key": REMOVED, "sources": [f"https://h/{REMOVED}"]}},
    }


def test_the_shipped_settings_stay_as_they_are() -> None:
    tree = msgspec.to_builtins(Settings(), enc_hook=str)
    assert redact_settings(tree) == tree


def test_a_long_line_of_any_kind_takes_no_long_time() -> None:
    for part in ("a.", "token ", "a", "://", "/a", "ab-", "a1", '{"a":', "a:b@"):
        redact_text(part * (60_000 // len(part)))
