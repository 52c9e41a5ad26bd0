"""What leaves the machine in a bundle: everything useful, no secret."""

from __future__ import annotations

import pytest

from cacheserver.doctor.redact import REMOVED, redact_settings, redact_text, secrets_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /a?P1=1&P4=sig HTTP/1.1", f"GET /a?{REMOVED} HTTP/1.1"),
        ('{"url":"http://h/p?x=1"}', f'{{"url":"http://h/p?{REMOVED}"}}'),
        ("http://user:pw@h/p", "http://h/p"),
        ("Authorization: Bearer abc", f"Authorization: {REMOVED}"),
        ("x Bearer abcdefghij y", f"x Bearer {REMOVED} y"),
        ('token = "abc"', f"token = {REMOVED}"),
        ("admin_token: 'a b'", f"admin_token: {REMOVED}"),
        ('{"password":"x"}', f'{{"password":{REMOVED}}}'),
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
