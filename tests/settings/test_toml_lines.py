"""Line numbers of TOML keys."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.settings.toml_lines import Path, dotted, key_lines, line_of

TEXT = '''\
# a comment with key = 1
top = "x" # and another = 2
[store]
piece_size = "1MiB"
[[store.volumes]]
path = "/a"

[[store.volumes]]
path = """
[not.a.table]
key = 1""\\"
"""
max_size = '"]'
sub.deep = [
  1, # one
  { name = "a", "quoted.key" = 2 },
]
[store.volumes.extra]
x = 1979-05-27T07:32:00Z
["a.b" . 'c d']
"e\\u0066" = true
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("store",), 3),
        (("store", "piece_size"), 4),
        (("store", "volumes"), 5),
        (("store", "volumes", 0), 5),
        (("store", "volumes", 0, "path"), 6),
        (("store", "volumes", 1), 8),
        (("store", "volumes", 1, "path"), 9),
        (("store", "volumes", 1, "max_size"), 13),
        (("store", "volumes", 1, "sub", "deep"), 14),
        (("store", "volumes", 1, "sub", "deep", 0), 15),
        (("store", "volumes", 1, "sub", "deep", 1, "name"), 16),
        (("store", "volumes", 1, "sub", "deep", 1, "quoted.key"), 16),
        (("store", "volumes", 1, "extra", "x"), 19),
        (("a.b", "c d"), 20),
        (("a.b", "c d", "ef"), 21),
    ],
)
def test_line_of_each_key(path: Path, line: int) -> None:
    assert key_lines(TEXT)[path] == line


def test_only_keys_that_are_in_the_text_have_a_line() -> None:
    assert ("not", "a") not in key_lines(TEXT)
    assert ("key",) not in key_lines(TEXT)


def test_missing_key_has_the_line_of_what_is_around_it() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("store", "volumes", 1, "nothing")) == 8
    assert line_of(lines, ("nothing",)) is None


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\nb = 2\r\n")["b",] == 2


_KEY = st.text(min_size=1, max_size=5).filter(lambda text: "\r" not in text)


@given(st.dictionaries(_KEY, st.text(max_size=8).filter(lambda text: "\r" not in text), max_size=6))
def test_every_key_of_a_valid_text_has_its_line(values: dict[str, str]) -> None:
    def quoted(text: str) -> str:
        return '"' + "".join(f"\\U{ord(char):08x}" for char in text if not "\ud800" <= char <= "\udfff") + '"'

    text = "".join(f"# line\n{quoted(key)} = {quoted(value)}\n" for key, value in values.items())
    lines = key_lines(text)
    for position, key in enumerate(tomllib.loads(text)):
        assert lines[key,] == 2 * position + 2


@given(st.text(alphabet="ab=[]{}\"'\\\n#., 1", max_size=60))
def test_no_text_upsets_the_scanner(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)
    assert all((key,) in lines for key in data)


def test_dotted_form_quotes_what_is_not_bare() -> None:
    assert dotted(("store", "volumes", 0, "path")) == "store.volumes[0].path"
    assert dotted(("services", "a.b\n")) == 'services."a.b\\n"'
