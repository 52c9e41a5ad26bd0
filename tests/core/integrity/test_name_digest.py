"""Digests in file names: where they are believed, and where a name is only a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.integrity.name_digest import claim_from_name
from cacheserver.core.integrity.trust import Claim
from tests.support.targets import admitted

HEX = "0123456789abcdef0123456789abcdef01234567"
CLAIM = Claim(anchor="name", authentic=True, sha1=bytes.fromhex(HEX))
UPDATE = "http://au.download.windowsupdate.com"
WSUS = {"hosts": ["http://wsus.corp:8530"], "digest_in_name": True}


@pytest.mark.parametrize(
    "path",
    [
        f"/c/msdownload/update/software/secu/2024/01/windows10.0-kb5034122-x64_{HEX}.cab",
        f"/msdownload/update/v3-19990518/cabpool/x_{HEX}.exe",
        f"/d/msdownload/a_{HEX}.psf?P1=1700000000&P4=a%2b",
        f"/C/MSDownload/A_{HEX.upper()}.MSU",
        f"//c//msdownload//x_{HEX}.cab",
        f"/c/msdownload/%78_{HEX}.cab",
        f"/c/msdownload/_{HEX}.esd",
        f"/c/msdownload/y_{'f' * 40}_{HEX}.cab",
    ],
)
def test_windows_update_names_state_the_sha_1(path: str) -> None:
    assert claim_from_name(admitted(UPDATE + path)) == CLAIM


@pytest.mark.parametrize(
    "path",
    [
        f"/c/update/x_{HEX}.cab",
        f"/msdownload_{HEX}.cab",
        f"/c/msdownload/x{HEX}.cab",
        f"/c/msdownload/x-{HEX}.cab",
        f"/c/msdownload/x_{HEX}",
        f"/c/msdownload/x_{HEX}.",
        f"/c/msdownload/x_{HEX}.cab.phf",
        f"/c/msdownload/x_{HEX}.cab/more",
        f"/c/msdownload/x_{HEX[1:]}.cab",
        f"/c/msdownload/x_0{HEX}.cab",
        f"/c/msdownload/x_{HEX[:-1]}g.cab",
        f"/c/msdownload/x_{HEX}.toolongextension",
        f"/c/msdownload/x?y=_{HEX}.cab",
        f"/x_{HEX}.cab?/msdownload/",
        f"/Content/67/{HEX}.cab",
    ],
)
def test_other_windows_update_paths_state_nothing(path: str) -> None:
    assert claim_from_name(admitted(UPDATE + path)) is None


@pytest.mark.parametrize(
    "path",
    [f"/Content/67/{HEX}.exe", f"/content/67/{HEX.upper()}.CAB", f"/WSUS/Content/67/{HEX}.psf"],
)
def test_wsus_names_state_the_sha_1_where_the_own_service_says_so(path: str) -> None:
    assert claim_from_name(admitted(f"http://wsus.corp{path}", wsus=WSUS)) == CLAIM


@pytest.mark.parametrize(
    "path",
    [
        f"/Content/66/{HEX}.exe",
        f"/Content/{HEX}.exe",
        f"/Contents/67/{HEX}.exe",
        f"/Content/67/x{HEX}.exe",
        f"/Content/67/{HEX}",
        f"/Content/67/more/{HEX}.exe",
        f"/c/msdownload/x_{HEX}.cab",
        f"/{HEX}.exe",
        "/",
    ],
)
def test_other_paths_of_an_own_service_state_nothing(path: str) -> None:
    assert claim_from_name(admitted(f"http://wsus.corp{path}", wsus=WSUS)) is None


def test_services_that_do_not_declare_it_state_nothing() -> None:
    silent = {"hosts": ["http://wsus.corp:8530"]}
    assert claim_from_name(admitted(f"http://wsus.corp/Content/67/{HEX}.exe", wsus=silent)) is None
    for host in ("officecdn.microsoft.com", "ctldl.windowsupdate.com", "swda01.manage.microsoft.com"):
        assert claim_from_name(admitted(f"http://{host}/c/msdownload/x_{HEX}.cab")) is None


@given(st.binary(min_size=20, max_size=20), st.sampled_from(["cab", "exe", "psf", "7z"]))
def test_claim_is_the_digest_in_the_name_and_nothing_more(digest: bytes, extension: str) -> None:
    expected = Claim(anchor="name", authentic=True, sha1=digest)
    update = f"{UPDATE}/d/msdownload/update/x_{digest.hex()}.{extension}"
    assert claim_from_name(admitted(update)) == expected
    wsus = f"http://wsus.corp/Content/{digest.hex()[-2:]}/{digest.hex()}.{extension}"
    assert claim_from_name(admitted(wsus, wsus=WSUS)) == expected


def test_long_hostile_paths_are_judged_at_once() -> None:
    assert claim_from_name(admitted(UPDATE + "/msdownload" * 1000 + f"/x_{HEX}.cab")) == CLAIM
    assert claim_from_name(admitted(f"{UPDATE}/msdownload/{'_0' * 5000}.cab")) is None
