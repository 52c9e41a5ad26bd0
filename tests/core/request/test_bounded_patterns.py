"""Which patterns may be matched against text of clients."""

from __future__ import annotations

import re
import time

import pytest

from cacheserver.core.request.bounded_patterns import check_bounded
from cacheserver.trust.options import TrustOptions


@pytest.mark.parametrize(
    "pattern",
    [
        r"([a-z0-9-]+\.?)+\.eu\.mirrors\.test",
        r"(a*)*b",
        r"(a|aa)+b",
        r"(?:a?){30}b",
        r"((?:ab)+c?){2,}",
        r"(?=(a+)+b)x",
        r"(?:x|(?:a+)+)b",
        "a?" * 30 + "b",
        ".*" * 5 + "x",
        r"(?:[a-z.]+\.)+x",
        r"(?i)(?:[a-z]+A)+x",
        r"(?i:(?:[a-z]+A)+)x",
        r"(?:[a-z]+[.-])+x",
        r"(?:\w+a)+x",
        r"(?:[^x]+a)+x",
        r"(?:[a-z]+\.|b)+x",
        r"(?:(?:a+)?\.?)+x",
        r"(?:[a-z]+(?:\.a*)?)+x",
        "(",
    ],
)
def test_a_pattern_that_could_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_bounded(pattern, 253)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?:[0-9]+\.)?(?:au\.)?(?:b1\.)?download\.windowsupdate\.com",
        r"(?:[a-z0-9.-]+\.)?officecdn\.microsoft\.com",
        r"(swd[a-d]0[12])-mscdn\.example",
        r"(.*)\.cdn\.(.*)",
        r"(?:[a-z]\.){3}example",
        r"(?:[a-c]|dd){3}\.example",
        r"(?P<n>a|b)\.example",
        r"(?:[a-z0-9-]+\.)+example",
        r"(?:(?P<n>[a-z0-9-]+)\.){2,}[^.]+",
        r"(?:[a-z]+\.[0-9]+-)*x",
        r"(?:[a-z]+[.])+x",
    ],
)
def test_a_pattern_of_bounded_work_is_taken(pattern: str) -> None:
    check_bounded(pattern, 253)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(?:[a-z0-9-]+\.)+example", "a." * 500),
        (r"(?:[a-z0-9-]+\.)+example", "a" * 1000),
        (r"(?:[a-z]+\.[0-9]+-)*x", "a.0-" * 250),
        (TrustOptions().edge_cdp_pattern, "/msedge-a" * 110),
        (TrustOptions().edge_cdp_pattern, "/" * 1000),
        (TrustOptions().edge_cdp_pattern, "/msedge-a/1.1.1" * 66),
    ],
)
def test_what_is_taken_takes_no_long_time(pattern: str, text: str) -> None:
    check_bounded(pattern, 1024)
    began_s = time.thread_time()
    assert re.fullmatch(pattern, text) is None
    assert time.thread_time() - began_s < 0.5
