"""The Edge update API anchor against a real TLS server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.trust import Claim
from cacheserver.trust.options import TrustOptions
from tests.support.certificates import Authority
from tests.support.targets import admitted
from tests.trust.ground import HandClock, Service, anchors, running, says

HOST = "http://msedge.b.tlu.dl.delivery.mp.microsoft.com"
FOLDER = "/edge/msedge-stable-win-x64/120.0.2210.61"
H1, H256, HOH = bytes(range(20)), bytes(range(32)), bytes(32)


def listed(name: str = "setup.exe", **changed: object) -> dict[str, object]:
    return {
        "FileId": name,
        "Url": f"http://msedge.f.dl.delivery.mp.microsoft.com{FOLDER}/{name}?P1=1&P4=x%2b",
        "SizeInBytes": 170_000_000,
        "Hashes": {"Sha1": to_base64(H1), "Sha256": to_base64(H256)},
        "DeliveryOptimization": {"Properties": {"IntegrityCheckInfo": {"HashOfHashes": to_base64(HOH)}}},
        **changed,
    }


def options(service: Service, authority: Authority, **more: Any) -> TrustOptions:
    return TrustOptions(edge_cdp=True, edge_cdp_url=service.url, ca_file=authority.ca_file, **more)


async def test_file_of_the_version_is_found_by_its_path(authority: Authority) -> None:
    answer = says(json.dumps([listed("other.exe", SizeInBytes=1), listed()]))
    async with (
        running(authority.server_context(), answer) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(admitted(f"{HOST}{FOLDER}/setup.exe?P1=2"), Fields()) == (
            Claim(
                anchor="edge_cdp",
                authentic=True,
                length_bytes=170_000_000,
                hash_of_hashes=HOH,
                sha256=H256,
                sha1=H1,
            ),
        )
        path = (
            "/api/v2/contents/Browser/namespaces/Default/names/msedge-stable-win-x64/versions/120.0.2210.61/files"
            "?action=GenerateDownloadInfo"
        )
        assert service.asked == [("POST", path, b'{"targetingAttributes":{}}')]
        assert counts["edge_cdp:claim"] == 1


async def test_one_answer_serves_all_files_of_a_version(authority: Authority) -> None:
    clock = HandClock()
    async with (
        running(authority.server_context(), says(json.dumps([listed(), listed("b.exe")]))) as service,
        anchors(options(service, authority), clock) as (asked, counts),
    ):
        for name in ("setup.exe", "b.exe", "unlisted.exe"):
            await asked.claims(admitted(f"{HOST}{FOLDER}/{name}"), Fields())
        assert len(service.asked) == 1
        assert (counts["edge_cdp:claim"], counts["edge_cdp:silent"]) == (2, 1)
        await asked.claims(admitted(f"{HOST}{FOLDER[:-1]}2/setup.exe"), Fields())
        assert len(service.asked) == 2


@pytest.mark.parametrize("missing", ["SizeInBytes", "Hashes", "DeliveryOptimization"])
async def test_what_a_file_does_not_state_is_not_claimed(missing: str, authority: Authority) -> None:
    file = {name: value for name, value in listed().items() if name != missing}
    async with (
        running(authority.server_context(), says(json.dumps([file]))) as service,
        anchors(options(service, authority)) as (asked, _counts),
    ):
        (claim,) = await asked.claims(admitted(f"{HOST}{FOLDER}/setup.exe"), Fields())
        assert (claim.length_bytes is None) == (missing == "SizeInBytes")
        assert (claim.whole_digests == {}) == (missing == "Hashes")
        assert (claim.hash_of_hashes is None) == (missing == "DeliveryOptimization")


@pytest.mark.parametrize(
    "url",
    [
        f"{HOST}/filestreamingservice/files/7bc846e0-af9c-49be-a03d-bb04428c9bb5",
        f"{HOST}/msedge-stable-win-x64/120/setup.exe",
        f"http://officecdn.microsoft.com{FOLDER}/setup.exe",
    ],
)
async def test_nothing_is_asked_about_paths_without_product_and_version(url: str, authority: Authority) -> None:
    async with (
        running(authority.server_context(), says("[]")) as service,
        anchors(options(service, authority)) as (asked, _counts),
    ):
        assert await asked.claims(admitted(url), Fields()) == ()
        assert service.asked == []


async def test_words_out_of_the_path_are_escaped_in_the_question(authority: Authority) -> None:
    pattern = "/(?P<product>[^/]+)/(?P<version>[^/]+)/.*"
    settings = {"edge_cdp_pattern": pattern, "edge_cdp_path": "/v/{version}/p/{product}"}
    async with (
        running(authority.server_context(), says("[]")) as service,
        anchors(options(service, authority, **settings)) as (asked, _counts),
    ):
        assert await asked.claims(admitted(f"{HOST}/a&b%3Fc/%7Bproduct%7D@/x"), Fields()) == ()
        assert service.asked[0][1] == "/v/%257Bproduct%257D%40/p/a%26b%253Fc"


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        "null",
        "[null]",
        "<html></html>",
        json.dumps([{"FileId": "x"}]),
        json.dumps([listed(Url=None)]),
        json.dumps([listed(Url="http://[/x")]),
        json.dumps([listed(Url="http://x/a/../b")]),
        json.dumps([listed(SizeInBytes="1")]),
        json.dumps([listed(SizeInBytes=-1)]),
        json.dumps([listed(SizeInBytes=True)]),
        json.dumps([listed(Hashes={"Sha1": to_base64(H256)})]),
        json.dumps([listed(Hashes={"Sha256": H256.hex()})]),
        json.dumps([listed(Hashes=[])]),
        json.dumps([listed(DeliveryOptimization={"Properties": {"IntegrityCheckInfo": {"HashOfHashes": "x"}}})]),
        json.dumps([listed(), listed(SizeInBytes=1)]),
    ],
)
async def test_answer_of_another_form_is_no_claim(answer: str, authority: Authority) -> None:
    async with (
        running(authority.server_context(), says(answer)) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(admitted(f"{HOST}{FOLDER}/setup.exe"), Fields()) == ()
        assert counts["edge_cdp:bad_answer"] == 1


async def test_certificate_for_another_name_is_no_claim(authority: Authority) -> None:
    async with (
        running(authority.server_context(name="other.example"), says(json.dumps([listed()]))) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(admitted(f"{HOST}{FOLDER}/setup.exe"), Fields()) == ()
        assert (service.asked, counts["edge_cdp:certificate"]) == ([], 1)
