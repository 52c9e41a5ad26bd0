"""Digests as text: there and back, and one spelling each."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.integrity.digest_text import from_base64, from_hex, to_base64


@given(st.binary(max_size=64))
def test_what_is_written_is_read_back(raw: bytes) -> None:
    assert from_base64(to_base64(raw), len(raw)) == raw
    assert from_hex(raw.hex(), len(raw)) == raw


@given(st.binary(min_size=32, max_size=32), st.data())
def test_no_second_text_reads_as_the_same_digest(raw: bytes, data: st.DataObject) -> None:
    text = to_base64(raw)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=255).filter(lambda char: char != text[place]))
    try:
        read = from_base64(text[:place] + other + text[place + 1 :], 32)
    except ValueError:
        return
    assert read != raw


@pytest.mark.parametrize("bad", [None, 1, b"", "", "AA==", "QUJ=", "QUJD\n", "QU JD", "QUJD====", "QU-_", "QUJDé"])
def test_other_base64_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"\Ais "):
        from_base64(bad, 3 if bad != "QUJ=" else 2)


def test_pad_bits_must_be_zero() -> None:
    assert base64.b64decode("QUK=") == b"AB"
    with pytest.raises(ValueError, match="canonical"):
        from_base64("QUK=", 2)


@pytest.mark.parametrize("bad", [None, 1, "", "0", "0G", "AB", "ab ", "ａb", "abcd"])
def test_other_hex_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="2 lower-case hex digits"):
        from_hex(bad, 1)
