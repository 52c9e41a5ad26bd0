"""Origins that refuse or redirect: what each form of request gets to hear, and where the node goes by itself."""

from __future__ import annotations

import pytest

from tests.support.content import Content, Fault, blob
from tests.support.ground import DO_HOST, FRESH, OTHER_HOST, PIECE, Ground, GroundOptions

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUND = GroundOptions(config="[upstream]\nhead_timeout_s = 0.4\nretry_after_max_s = 0\n[fill]\nbackoff_s = 0.02\n")
BODY = blob(65, PIECE + 500_000)
WHOLE: tuple[tuple[str, str], ...] = ()
RANGE = (("Range", "bytes=1000-1400000"),)
STATUSES = (401, 403, 404, 410, 429, 500, 502, 503, 504)


@pytest.mark.parametrize("status", STATUSES)
async def test_an_origins_refusal_is_relayed_in_host_form_and_5xx_in_cache_host_form(
    ground: Ground, status: int
) -> None:
    path = ground.add(BODY)
    ground.origin.fault(path, always=Fault.refusing(status, ("Retry-After", "7")))
    relayed = await ground.get(path)
    assert (relayed.status, relayed.complete) == (status, True)
    if status in (429, 503):
        assert relayed.fields.value("Retry-After") == "7"
    for asked in (WHOLE, RANGE):
        changed = await ground.get_as_client(path, *asked)
        assert 500 <= changed.status < 600
        assert (changed.framing, str(status) in changed.body.decode()) == ("length", True)
    ground.origin.heal(path)
    assert (await ground.get(path)).body == BODY
    assert (await ground.get_as_client(path)).body == BODY


async def test_a_client_in_cache_host_form_never_gets_204(ground: Ground) -> None:
    path = ground.add(BODY)
    ground.origin.fault(path, always=Fault(status=204))
    assert (await ground.get(path)).status == 204
    for asked in (WHOLE, RANGE):
        assert 500 <= (await ground.get_as_client(path, *asked)).status < 600


@pytest.mark.parametrize("status", [201, 202, 203, 205, 226, 299, 305, 399])
async def test_a_client_in_cache_host_form_never_gets_a_success_that_it_takes_for_the_file(
    ground: Ground, status: int
) -> None:
    path = ground.add(BODY)
    ground.origin.fault(path, always=Fault(status=status))
    assert (await ground.get(path)).status == status
    assert 500 <= (await ground.get_as_client(path)).status < 600


async def test_a_416_that_answers_no_range_bans_no_node(ground: Ground) -> None:
    path = ground.add(BODY)
    ground.origin.fault(path, always=Fault.refusing(416))
    assert (await ground.get(path)).status == 416
    assert 500 <= (await ground.get_as_client(path)).status < 600


async def test_passing_faults_are_5xx_in_both_forms(ground: Ground) -> None:
    path = ground.add(BODY)
    ground.origin.fault(path, always=Fault(close_before_head=True))
    assert (await ground.get(path)).status in (502, 504)
    assert (await ground.get_as_client(path)).status in (502, 504)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_by_the_node_and_not_cached(ground: Ground, status: int) -> None:
    path, end = ground.new_path("from"), ground.add(BODY, name="to")
    ground.origin.add(path, Content(b""))
    ground.origin.fault(path, always=Fault.redirecting(f"http://{OTHER_HOST}{end}?x=%2f", status))
    response = await ground.get(path)
    assert (response.status, response.body == BODY) == (200, True)
    assert {r.fields.value("Host") for r in ground.origin.asked(end)} == {OTHER_HOST}
    assert {r.target for r in ground.origin.asked(end)} == {f"{end}?x=%2f"}
    moved = blob(63, 1000)
    ground.origin.heal(path)
    ground.origin.add(path, Content(moved, headers=FRESH))
    assert (await ground.get(path, ("Cache-Control", "no-cache"))).body == moved


@pytest.mark.parametrize(
    ("status", "fields", "sticks"),
    [
        (302, (), False),
        (307, (), False),
        (302, (("Cache-Control", "max-age=60"),), True),
        (301, (), True),
        (301, (("Cache-Control", "no-store"),), False),
    ],
)
@pytest.mark.parametrize("form", ["host", "cache-host"])
async def test_a_redirect_leads_to_the_old_target_only_as_long_as_it_says(
    ground: Ground, status: int, fields: tuple[tuple[str, str], ...], sticks: bool, form: str
) -> None:
    get = ground.get if form == "host" else ground.get_as_client
    new = blob(66, 1000)
    path, ends = ground.new_path("latest"), [ground.add(body, name="to") for body in (BODY, new)]
    ground.origin.add(path, Content(b""))
    for end, right in zip(ends, (BODY, BODY if sticks else new), strict=True):
        redirect = Fault(status=status, headers=(("Location", f"http://{OTHER_HOST}{end}"), *fields))
        ground.origin.fault(path, always=redirect)
        assert (await get(path)).body == right


async def test_html_in_place_of_a_payload_is_neither_stored_nor_passed_on(ground: Ground) -> None:
    page = Content(b"\xef\xbb\xbf<html>log in</html>", headers=(("Content-Type", "text/html; charset=utf-8"),))
    path = ground.new_path("update.cab.psf")
    ground.origin.add(path, page)
    for asked in (WHOLE, (("Range", "bytes=0-9"),)):
        assert (await ground.get_as_client(path, *asked, host=DO_HOST)).status == 502
    assert (await ground.get(path, host=DO_HOST, method="HEAD")).status == 502
    ground.origin.add(path, Content(BODY))
    assert (await ground.get_as_client(path, host=DO_HOST)).body == BODY


async def test_a_relative_redirect_is_taken_from_the_asked_url(ground: Ground) -> None:
    end = ground.add(BODY, name="to")
    path = end.replace("/to", "/from")
    ground.origin.add(path, Content(b""))
    ground.origin.fault(path, always=Fault.redirecting("to"))
    assert (await ground.get(path)).body == BODY


async def test_a_redirect_does_not_carry_credentials_to_another_host(ground: Ground) -> None:
    path, end = ground.new_path("from"), ground.add(BODY, name="to")
    ground.origin.add(path, Content(b""))
    ground.origin.fault(path, always=Fault.redirecting(f"http://{OTHER_HOST}{end}"))
    await ground.get(path, ("Authorization", "Bearer s3cret"), ("Cookie", "s3cret=1"))
    for record in ground.origin.asked(end):
        assert "s3cret" not in str(list(record.fields))


async def test_a_redirect_that_leads_nowhere_is_5xx_and_nothing_else_is_asked(ground: Ground) -> None:
    for location in ("#", "http://127.0.0.1:22/x", "http://unknown.example.org/x", "file:///etc/passwd"):
        path = ground.add(BODY)
        ground.origin.fault(path, always=Fault.redirecting(location))
        assert 500 <= (await ground.get_as_client(path)).status < 600
        assert len(ground.origin.asked(path)) <= 20
