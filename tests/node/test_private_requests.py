"""What one client asks for itself changes nothing that others get (RFC 9111 §3.5, §5.2.1)."""

from __future__ import annotations

import pytest

from tests.support.content import Content, blob
from tests.support.ground import FRESH, Ground, was_hit
from tests.support.record import RequestRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY, OTHER = blob(141, 20_000), blob(142, 20_000)
AGAIN = ("Cache-Control", "no-cache")
PRIVATE = {
    "no-store": [("Cache-Control", "no-cache, no-store")],
    "authorization": [AGAIN, ("Authorization", "Basic eDp5")],
    "cookie": [AGAIN, ("Cookie", "who=me")],
}
LATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize("asked", PRIVATE.values(), ids=PRIVATE)
@pytest.mark.parametrize(
    ("etag", "last_modified"),
    [(None, None), (None, LATE), ('W/"w"', None), ('"s"', None)],
    ids=["-", "lm", "weak", "strong"],
)
async def test_stored_content_stays_whatever_validates_it(
    ground: Ground, asked: list[tuple[str, str]], etag: str | None, last_modified: str | None
) -> None:
    path = ground.add(BODY, etag=etag, last_modified=last_modified)
    await ground.get(path)
    assert (await ground.get(path, *asked)).body == BODY
    count = len(ground.origin.asked(path))
    after = await ground.get(path)
    assert (was_hit(after), after.body, len(ground.origin.asked(path))) == (True, BODY, count)


@pytest.mark.parametrize("asked", PRIVATE.values(), ids=PRIVATE)
@pytest.mark.parametrize(
    "answer",
    [
        Content(b"no", status=404),
        Content(b"no", status=410),
        Content(b"no", status=403),
        Content(b"no", status=500),
        Content(b"", status=302, headers=(("Location", "/elsewhere"),)),
        Content(b"", status=304, etag='"v1"', headers=(("Cache-Control", "private, no-store"),)),
        Content(OTHER, etag='"v2"', headers=(("Cache-Control", "private"),)),
        Content(BODY, etag='"v1"', headers=(("Cache-Control", "no-store"), ("Vary", "*"))),
    ],
    ids=["404", "410", "403", "500", "302", "304 private", "200 private", "200 no-store"],
)
async def test_what_the_origin_says_to_one_client_is_not_said_of_the_content(
    ground: Ground, asked: list[tuple[str, str]], answer: Content
) -> None:
    path = ground.new_path()
    held = Content(BODY, etag='"v1"', headers=FRESH)

    def respond(record: RequestRecord) -> Content:
        return (
            answer
            if "no-store" in (record.fields.value("Cache-Control") or "") or "Authorization" in record.fields
            else held
        )

    ground.origin.add(path, respond)
    await ground.get(path)
    await ground.get(path, *asked)
    count = len(ground.origin.asked(path))
    after = await ground.get(path)
    assert (was_hit(after), after.body, len(ground.origin.asked(path))) == (True, BODY, count)
