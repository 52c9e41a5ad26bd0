"""Which patterns may be matched against text of clients."""

from __future__ import annotations

import pytest

from cacheserver.core.request.bounded_patterns import check_bounded


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
    ],
)
def test_a_pattern_of_bounded_work_is_taken(pattern: str) -> None:
    check_bounded(pattern, 253)
