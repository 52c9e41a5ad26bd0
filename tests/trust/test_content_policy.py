"""The content policy anchor against a real TLS server: what is asked, what is believed, what is counted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.trust import Claim
from cacheserver.trust.anchors import Anchors
from cacheserver.trust.https_json import MAX_BODY_BYTES
from cacheserver.trust.options import TrustOptions
from tests.support.certificates import Authority
from tests.support.targets import admitted
from tests.trust.ground import HandClock, Service, anchors, running, says

GUID = "7bc846e0-af9c-49be-a03d-bb04428c9bb5"
CONTENT = f"http://dl.delivery.mp.microsoft.com/filestreamingservice/files/{GUID}"
TARGET = admitted(f"{CONTENT}?P1=1700000000&P2=404&P4=secret%2b")
HASH = bytes(range(32))
GOOD = json.dumps({"ContentId": "x", "HashOfHashes": to_base64(HASH), "Size": 7, "Policies": {"a": 1.5, "Hash": "x"}})
CLAIM = Claim(anchor="content_policy", authentic=True, hash_of_hashes=HASH)


def options(service: Service | str, authority: Authority, **more: Any) -> TrustOptions:
    url = service if isinstance(service, str) else service.url
    return TrustOptions(content_policy=True, content_policy_url=url, ca_file=authority.ca_file, **more)


async def test_hash_of_hashes_of_a_valid_answer_is_an_authentic_claim(authority: Authority) -> None:
    async with (
        running(authority.server_context(), says(GOOD)) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == (CLAIM,)
        assert counts["content_policy:claim"] == 1


async def test_question_names_the_content_without_its_token(authority: Authority) -> None:
    async with (
        running(authority.server_context(), says(GOOD)) as service,
        anchors(options(service, authority)) as (asked, _counts),
    ):
        await asked.claims(TARGET, Fields())
        url = f"http%3A%2F%2Fdl.delivery.mp.microsoft.com%2Ffilestreamingservice%2Ffiles%2F{GUID}"
        assert service.asked == [("GET", f"/content/{GUID}/contentpolicy?altCatalogId={url}", b"")]


async def test_path_and_member_names_are_settings(authority: Authority) -> None:
    answer = json.dumps({"Data": {"Hoh": to_base64(HASH), "Len": 7}})
    settings: dict[str, Any] = {
        "content_policy_path": "/v9/{url}/x",
        "content_policy_hash_field": "Data.Hoh",
        "content_policy_length_field": "Data.Len",
        "content_policy_services": ("own",),
        "content_policy_paths": ("*.bin",),
    }
    own = {"own": {"hosts": ["own.example"]}}
    async with (
        running(authority.server_context(), says(answer)) as service,
        anchors(options(service, authority, **settings)) as (asked, _counts),
    ):
        (claim,) = await asked.claims(admitted("http://own.example/a.bin", **own), Fields())
        assert (claim.hash_of_hashes, claim.length_bytes) == (HASH, 7)
        assert service.asked[0][1] == "/v9/http%3A%2F%2Fown.example%2Fa.bin/x"


@pytest.mark.parametrize(
    "url",
    [
        f"{CONTENT}/pieceshash",
        "http://download.windowsupdate.com/c/msdownload/x.cab",
        f"http://officecdn.microsoft.com/filestreamingservice/files/{GUID}",
        f"http://own.example/filestreamingservice/files/{GUID}",
    ],
)
async def test_nothing_is_asked_about_other_contents(url: str, authority: Authority) -> None:
    async with (
        running(authority.server_context(), says(GOOD)) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(admitted(url, own={"hosts": ["own.example"]}), Fields()) == ()
        assert service.asked == []
        assert counts["content_policy:silent"] == 1


# -- faults: each is no claim, counted --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param({"days": (-30, -1)}, id="expired"),
        pytest.param({"days": (1, 30)}, id="not yet valid"),
        pytest.param({"name": "other.example"}, id="wrong name"),
        pytest.param({"name": "127.0.0.1"}, id="address instead of name"),
        pytest.param({"self_signed": True}, id="self-signed"),
    ],
)
async def test_certificate_that_does_not_verify_is_no_claim(leaf: dict[str, Any], authority: Authority) -> None:
    async with (
        running(authority.server_context(**leaf), says(GOOD)) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == ()
        assert service.asked == []
        assert counts["content_policy:certificate"] == 1


async def test_authority_that_is_not_configured_is_no_claim(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    async with (
        running(other.server_context(), says(GOOD)) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == ()
        assert counts["content_policy:certificate"] == 1


@pytest.mark.parametrize(
    ("body", "status", "result"),
    [
        (GOOD, 500, "origin_status"),
        (GOOD, 404, "origin_status"),
        (GOOD, 206, "origin_status"),
        ("", 204, "origin_status"),
        ("", 200, "bad_answer"),
        ("<html><body>Sign in</body></html>", 200, "bad_answer"),
        ("[]", 200, "bad_answer"),
        ("null", 200, "bad_answer"),
        ("{}", 200, "bad_answer"),
        ('{"HashOfHashes":null}', 200, "bad_answer"),
        ('{"HashOfHashes":7}', 200, "bad_answer"),
        (json.dumps({"HashOfHashes": to_base64(bytes(31))}), 200, "bad_answer"),
        (json.dumps({"HashOfHashes": HASH.hex()}), 200, "bad_answer"),
        (GOOD.replace("{", f'{{"HashOfHashes":"{to_base64(bytes(32))}",', 1), 200, "bad_answer"),
        (GOOD[:-1], 200, "bad_answer"),
        (b"\xef\xbb\xbf" + GOOD.encode(), 200, "bad_answer"),
        (GOOD.encode("utf-16"), 200, "bad_answer"),
        (b"[" * 500_000, 200, "bad_answer"),
        (GOOD[:-1].encode() + b',"x":"' + b"a" * MAX_BODY_BYTES + b'"}', 200, "bad_answer"),
    ],
)
async def test_answer_that_is_not_what_was_asked_for_is_no_claim(
    body: str | bytes, status: int, result: str, authority: Authority
) -> None:
    async with (
        running(authority.server_context(), says(body, status=status)) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == ()
        assert counts[f"content_policy:{result}"] == 1
        assert len(service.asked) == 1


@pytest.mark.parametrize("length", ["7", -1, 1.0, True, None, 1 << 60])
async def test_length_that_is_no_length_is_no_claim(length: object, authority: Authority) -> None:
    answer = json.dumps({"HashOfHashes": to_base64(HASH), "Size": length})
    async with (
        running(authority.server_context(), says(answer)) as service,
        anchors(options(service, authority, content_policy_length_field="Size")) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == ()
        assert counts["content_policy:bad_answer"] == 1


async def test_redirect_is_not_followed_even_to_itself(authority: Authority) -> None:
    async def away(_request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPFound("/content/elsewhere")

    async with (
        running(authority.server_context(), away) as service,
        anchors(options(service, authority)) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == ()
        assert len(service.asked) == 1
        assert counts["content_policy:origin_status"] == 1


@pytest.mark.parametrize("after_head", [False, True])
async def test_silent_service_costs_one_deadline_and_no_claim(after_head: bool, authority: Authority) -> None:
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        if after_head:
            await response.prepare(request)
            await response.write(b"{")
        await service.release.wait()
        return response

    async with (
        running(authority.server_context(), slow) as service,
        anchors(options(service, authority, deadline_s=0.3)) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == ()
        assert counts == Counter({"content_policy:timeout": 1, **_local_silence(1)})
        assert await asked.claims(admitted(f"{CONTENT[:-1]}0"), Fields()) == ()
        assert counts["content_policy:anchor_paused"] == 1


async def test_burst_behind_a_slow_but_healthy_service_is_answered_in_full(authority: Authority) -> None:
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return await says(GOOD)(request)

    burst = [admitted(f"{CONTENT[:-2]}{number:02d}") for number in range(80)]
    async with (
        running(authority.server_context(), slow) as service,
        anchors(options(service, authority, deadline_s=1.2)) as (asked, counts),
    ):
        told = await asyncio.gather(*(asked.claims(target, Fields()) for target in burst))
        assert all(each == (CLAIM,) for each in told)
        assert counts["content_policy:claim"] == 80 == len(service.asked)


async def test_service_that_is_not_there_is_no_claim(authority: Authority) -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with anchors(options(f"https://localhost:{port}", authority)) as (asked, counts):
        assert await asked.claims(TARGET, Fields()) == ()
        assert counts["content_policy:connect"] == 1


async def test_service_that_speaks_no_tls_is_no_claim(authority: Authority) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with anchors(options(f"https://localhost:{port}", authority)) as (asked, counts):
            assert await asked.claims(TARGET, Fields()) == ()
            assert counts["content_policy:connect"] == 1


# -- the KeyValue service ---------------------------------------------------------------------------------------

KEYVALUE = "ContentPolicy2_EndpointFullUri"


@asynccontextmanager
async def advertising(authority: Authority, told: str) -> AsyncIterator[tuple[Service, Anchors]]:
    """A service that is both, and anchors that ask it for the path at ``/all``."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await says(told if request.path == "/all" else GOOD)(request)

    async with running(authority.server_context(), answer) as service:
        more = options(service, authority, content_policy_keyvalue=f"{service.url}/all?a=b")
        async with anchors(more) as (asked, _counts):
            yield service, asked


async def test_path_that_the_keyvalue_service_names_is_asked_and_kept(authority: Authority) -> None:
    told = json.dumps({KEYVALUE: "https://cp.example/v3/content/", "Other": 1})
    async with advertising(authority, told) as (service, asked):
        for last in "ab":
            assert await asked.claims(admitted(f"{CONTENT[:-1]}{last}"), Fields()) == (CLAIM,)
        paths = [path.partition("?altCatalogId")[0] for _method, path, _body in service.asked]
        assert paths == ["/all?a=b", *(f"/v3/content/{GUID[:-1]}{last}/contentpolicy" for last in "ab")]


@pytest.mark.parametrize(
    "told",
    [
        "{}",
        "[]",
        "not JSON",
        json.dumps({KEYVALUE: 7}),
        json.dumps({KEYVALUE: ""}),
        json.dumps({KEYVALUE: "https://cp.example"}),
        json.dumps({KEYVALUE: "http://cp.example/v3/content"}),
        json.dumps({KEYVALUE: "https://cp.example/v3/{url}"}),
        json.dumps({KEYVALUE: "https://cp.example/v3/a%20b"}),
        json.dumps({KEYVALUE: "https://[/v3/content"}),
    ],
)
async def test_keyvalue_service_without_a_usable_answer_leaves_the_path_of_the_settings(
    authority: Authority, told: str
) -> None:
    async with advertising(authority, told) as (service, asked):
        assert await asked.claims(TARGET, Fields()) == (CLAIM,)
        assert service.asked[-1][1].startswith(f"/content/{GUID}/contentpolicy?")


# -- memory -----------------------------------------------------------------------------------------------------


async def test_answer_is_kept_for_its_time_whatever_the_token_says(authority: Authority) -> None:
    clock = HandClock()
    async with (
        running(authority.server_context(), says(GOOD)) as service,
        anchors(options(service, authority, answer_s=60.0), clock) as (asked, counts),
    ):
        for token in ("?P1=1", "?P1=2", ""):
            assert await asked.claims(admitted(CONTENT + token), Fields()) == (CLAIM,)
        assert len(service.asked) == 1
        clock.now_s += 61
        assert await asked.claims(TARGET, Fields()) == (CLAIM,)
        assert len(service.asked) == 2
        assert counts["content_policy:claim"] == 4


async def test_refused_content_is_asked_again_after_seconds_and_others_at_once(authority: Authority) -> None:
    clock = HandClock()
    async with (
        running(authority.server_context(), says("{}", status=404)) as service,
        anchors(options(service, authority, failure_s=10.0), clock) as (asked, counts),
    ):
        assert await asked.claims(TARGET, Fields()) == ()
        service.answer = says(GOOD)
        assert await asked.claims(TARGET, Fields()) == ()
        assert counts["content_policy:anchor_paused"] == 1
        assert await asked.claims(admitted(f"{CONTENT[:-1]}0"), Fields()) == (CLAIM,)
        clock.now_s += 11
        assert await asked.claims(TARGET, Fields()) == (CLAIM,)


def _local_silence(times: int) -> dict[str, int]:
    return {f"{name}:silent": times for name in ("catalogue", "name", "digest_field")}
