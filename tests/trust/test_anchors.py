"""All anchors as one: order, merging, deadlines, and that no fault reaches the caller."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from cacheserver.core.errors import BadAnswer, ConfigError, OriginStatus, UpstreamTimeout
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.content_catalogue import CatalogueDocument, Entry, render_catalogue
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.target import Target
from cacheserver.trust import anchors as anchors_module
from cacheserver.trust.anchors import Anchors, DigestFieldAnchor, build_anchors
from cacheserver.trust.options import TrustOptions
from cacheserver.trust.signing import new_private_key, public_key, sign
from tests.support.certificates import Authority
from tests.support.targets import admitted
from tests.trust.ground import HandClock, anchors, running, says

HEX = "0123456789abcdef0123456789abcdef01234567"
TARGET = admitted(f"http://download.windowsupdate.com/c/msdownload/x_{HEX}.cab")
A = Claim(anchor="a", authentic=True, sha1=b"1" * 20)
B = Claim(anchor="b", authentic=False, sha1=b"2" * 20)
BINDING = Claim(anchor="c", authentic=True, hash_of_hashes=bytes(32))


class Told:
    """An anchor that says what it was made with, or raises it."""

    def __init__(self, name: str, answer: tuple[Claim, ...] | Exception) -> None:
        self.name = name
        self.answer = answer
        self.times = 0

    async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
        """What the test said."""
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def composed(local: list[Told], remote: list[Told], counts: Counter[str] | None = None) -> Anchors:
    def count(anchor: str, result: str) -> None:
        if counts is not None:
            counts[f"{anchor}:{result}"] += 1

    return Anchors(local=local, remote=remote, deadline_s=1.0, count=count)


async def test_claims_come_in_the_order_of_anchors_and_each_once() -> None:
    made = composed([Told("b", (B,)), Told("a", (A,))], [Told("r", (A, B)), Told("c", (BINDING,))])
    assert await made.claims(TARGET, Fields()) == (B, A, BINDING)


async def test_remote_anchors_are_left_alone_when_a_local_claim_binds_the_manifest() -> None:
    remote = Told("r", (A,))
    assert await composed([Told("c", (BINDING,))], [remote]).claims(TARGET, Fields()) == (BINDING,)
    assert remote.times == 0
    unsure = Claim(anchor="c", authentic=False, hash_of_hashes=bytes(32))
    assert await composed([Told("c", (unsure,))], [remote]).claims(TARGET, Fields()) == (unsure, A)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (BadAnswer("no"), "bad_answer"),
        (ConfigError("no"), "config"),
        (TimeoutError(), "timeout"),
        (ValueError("a bug"), "failed"),
        (RecursionError(), "failed"),
    ],
)
async def test_fault_of_one_anchor_is_counted_and_the_others_go_on(error: Exception, result: str) -> None:
    counts: Counter[str] = Counter()
    for local, remote in (([Told("x", error), Told("a", (A,))], []), ([], [Told("x", error), Told("a", (A,))])):
        assert await composed(local, remote, counts).claims(TARGET, Fields()) == (A,)
    assert counts == {f"x:{result}": 2, "a:claim": 2}


async def test_anchor_that_hangs_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Told):
        async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    monkeypatch.setattr(anchors_module, "_SLACK_S", -0.95)
    counts: Counter[str] = Counter()
    assert await composed([], [Hanging("x", ()), Told("a", (A,))], counts).claims(TARGET, Fields()) == (A,)
    assert counts == {"x:timeout": 1, "a:claim": 1}


async def test_caller_that_goes_away_cancels_the_question() -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    class Hanging(Told):
        async def ask(self, target: Target, response: Fields, *, secure: bool) -> tuple[Claim, ...]:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return ()

    counts: Counter[str] = Counter()
    task = asyncio.create_task(composed([], [Hanging("x", ())], counts).claims(TARGET, Fields()))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
    assert counts == {}


STRANGE = [OriginStatus(status) for status in (204, 206, 301, 302, 304, 401, 403, 407, 408, 425, 429, 500, 503)]


@pytest.mark.parametrize("error", [UpstreamTimeout("no"), BadAnswer("no"), ValueError("a bug"), *STRANGE])
async def test_anchor_that_cannot_tell_is_unknown_not_silent(error: Exception) -> None:
    told = await composed([], [Told("x", error), Told("a", (A,))]).claims(TARGET, Fields())
    assert told.unknown == ("x",)
    assert told == (A,)


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_service_that_has_no_such_content_is_silent_not_unknown(status: int) -> None:
    told = await composed([], [Told("x", OriginStatus(status))]).claims(TARGET, Fields())
    assert told.unknown == ()
    assert told == ()


# -- the anchors that settings name -----------------------------------------------------------------------------


async def test_only_names_and_digest_fields_speak_by_default() -> None:
    digest = to_base64(bytes(32))
    response = Fields([("Repr-Digest", f"sha-256=:{digest}:")])
    async with anchors(TrustOptions()) as (asked, counts):
        assert await asked.claims(TARGET, response) == (
            Claim(anchor="name", authentic=True, sha1=bytes.fromhex(HEX)),
            Claim(anchor="digest_field", authentic=False, sha256=bytes(32)),
        )
        assert counts == {"catalogue:silent": 1, "name:claim": 1, "digest_field:claim": 1}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("secure", [False, True])
async def test_digest_field_is_as_authentic_as_what_carried_it_whatever_the_url_says(scheme: str, secure: bool) -> None:
    response = Fields([("Repr-Digest", f"sha-256=:{to_base64(bytes(32))}:")])
    async with anchors(TrustOptions()) as (asked, _counts):
        target = admitted(f"{scheme}://a.example/x", own={"hosts": ["a.example"]})
        (claim,) = await asked.claims(target, response, secure=secure)
        assert claim.authentic is secure


async def test_each_anchor_can_be_switched_off() -> None:
    async with anchors(TrustOptions(names=False, digest_fields=False)) as (asked, counts):
        response = Fields([("Repr-Digest", f"sha-256=:{to_base64(bytes(32))}:")])
        assert await asked.claims(TARGET, response) == ()
        assert counts == {"catalogue:silent": 1}


async def test_catalogue_and_services_agree_in_one_answer(authority: Authority, tmp_path: Path) -> None:
    guid = "7bc846e0-af9c-49be-a03d-bb04428c9bb5"
    key = new_private_key()
    entry = Entry(id=guid, length=5, sha256="00" * 32)
    document = sign(CatalogueDocument(version=1, issued="2025-01-02T03:04:05Z", entries=(entry,)), key)
    (tmp_path / "c.json").write_bytes(render_catalogue(document))
    answer = f'{{"HashOfHashes":"{to_base64(bytes(32))}"}}'
    async with running(authority.server_context(), says(answer)) as service:
        options = TrustOptions(
            catalogues=(str(tmp_path / "c.json"),),
            catalogue_keys=(to_base64(public_key(key)),),
            content_policy=True,
            content_policy_url=service.url,
            ca_file=authority.ca_file,
        )
        async with anchors(options) as (asked, _counts):
            target = admitted(f"http://dl.delivery.mp.microsoft.com/filestreamingservice/files/{guid}")
            claims = await asked.claims(target, Fields())
    assert [claim.anchor for claim in claims] == ["catalogue", "content_policy"]


@pytest.mark.parametrize(
    ("url", "lines", "found"),
    [
        ("https://a.example/x", [("Content-Length", "7")], True),
        ("http://a.example/x", [("Content-Length", "7")], False),
        ("https://a.example/x", [], None),
        ("https://a.example/x", [("Content-Length", "2"), ("Content-Range", "bytes 0-1/7")], None),
    ],
)
async def test_content_digest_counts_for_whole_answers_alone(
    url: str, lines: list[tuple[str, str]], found: bool | None
) -> None:
    response = Fields([*lines, ("Content-Digest", f"sha-256=:{to_base64(bytes(32))}:")])
    target = admitted(url, own={"hosts": ["a.example"]})
    claims = await DigestFieldAnchor().ask(target, response, secure=target.scheme == "https")
    assert [claim.authentic for claim in claims] == ([] if found is None else [found])


@pytest.mark.parametrize("bad", ["", "not a certificate"])
def test_ca_file_without_certificates_is_refused_at_the_start(bad: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(bad)
    options = TrustOptions(content_policy=True, ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError) as caught:
        build_anchors(options, clock=HandClock(), count=lambda _a, _r: None, user_agent="x", resolver=None)
    assert caught.value.key == "trust.ca_file"
