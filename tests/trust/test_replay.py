"""A catalogue that is older than the one taken before, or has expired, is not used, and says why."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from cacheserver.core.errors import CatalogueError
from cacheserver.core.integrity.content_catalogue import (
    CatalogueDocument,
    Entry,
    check_document,
    parse_catalogue,
    refusal,
    render_catalogue,
    sign_bytes,
)
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.trust.catalogue_anchor import CatalogueAnchor
from cacheserver.trust.issued import FILE_NAME, Issued
from cacheserver.trust.signing import new_private_key, public_key, sign
from tests.trust.ground import HandClock

KEY = new_private_key()
KEYS = [to_base64(public_key(KEY))]
OLD, NEW, EXPIRES = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"
DOCUMENT = CatalogueDocument(version=1, issued=NEW, entries=(Entry(path="/a", length=5, sha256="ab" * 32),))
TWO = (*DOCUMENT.entries, Entry(path="/b", length=5, sha256="ab" * 32))


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Scene:
    """One catalogue file and the cache directory of a node."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "c.json"
        self.folder = folder
        self.clock = HandClock(unix(NEW))

    def write(self, document: CatalogueDocument) -> None:
        """Sign it and put it in its place."""
        self.file.write_bytes(render_catalogue(sign(document, KEY)))

    def start(self) -> CatalogueAnchor:
        """A node's anchor, as at a start."""
        issued = Issued(str(self.folder))
        return CatalogueAnchor(files=[str(self.file)], trusted_keys=KEYS, issued=issued, wall_s=self.clock.wall_s)

    def reload(self, anchor: CatalogueAnchor) -> str:
        """Why the file is refused at a reload; empty where it is not."""
        anchor.reload(files=[str(self.file)], trusted_keys=KEYS)
        return anchor.files[0].refused


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_an_older_catalogue_is_refused_at_a_reload_and_the_newer_one_goes_on(scene: Scene) -> None:
    scene.write(DOCUMENT)
    anchor = scene.start()
    scene.write(replace(DOCUMENT, issued=OLD, entries=TWO))
    reason = f"it was issued at {OLD}, before the one of {NEW} that was taken already"
    assert scene.reload(anchor) == reason
    assert scene.reload(anchor) == reason, "also when it is asked for twice"
    assert len(anchor) == 1


def test_an_older_catalogue_is_refused_after_a_restart(scene: Scene) -> None:
    scene.write(DOCUMENT)
    scene.start()
    scene.write(replace(DOCUMENT, issued=OLD))
    anchor = scene.start()
    assert anchor.files[0].refused
    assert len(anchor) == 0
    Issued(str(scene.folder)).forget(str(scene.file))
    assert not scene.reload(anchor)
    assert len(anchor) == 1
    scene.write(replace(DOCUMENT, issued=NEW))
    assert not scene.reload(anchor)


def test_the_same_time_of_issue_is_not_older(scene: Scene) -> None:
    scene.write(DOCUMENT)
    anchor = scene.start()
    scene.write(replace(DOCUMENT, entries=TWO))
    assert not scene.reload(anchor)
    assert len(anchor) == 2


def test_one_file_does_not_outdate_another(scene: Scene) -> None:
    scene.write(DOCUMENT)
    scene.start()
    scene.file = scene.folder / "another.json"
    scene.write(replace(DOCUMENT, issued=OLD))
    assert not scene.start().files[0].refused


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"a":1}'])
def test_a_damaged_memory_refuses_nothing_and_is_written_anew(scene: Scene, damaged: bytes) -> None:
    (scene.folder / FILE_NAME).write_bytes(damaged)
    scene.write(DOCUMENT)
    assert not scene.start().files[0].refused
    assert Issued(str(scene.folder)).load() == {str(scene.file): NEW}


def test_an_expired_catalogue_says_nothing_from_that_moment_on(scene: Scene) -> None:
    scene.write(replace(DOCUMENT, expires=EXPIRES))
    anchor = scene.start()
    scene.clock.now_s = unix(EXPIRES) - 1
    assert not anchor.expire()
    assert len(anchor) == 1
    scene.clock.now_s += 1
    assert anchor.expire()
    assert not anchor.expire(), "once"
    assert (len(anchor), anchor.files[0].refused) == (0, f"it has expired at {EXPIRES}")
    assert scene.start().files[0].refused


def test_an_expired_catalogue_does_not_outdate_what_is_left(scene: Scene) -> None:
    scene.write(replace(DOCUMENT, issued=OLD))
    anchor = scene.start()
    scene.clock.now_s = unix(EXPIRES)
    scene.write(replace(DOCUMENT, expires=EXPIRES))
    assert scene.reload(anchor)
    assert Issued(str(scene.folder)).load() == {str(scene.file): OLD}
    assert len(anchor) == 1, "the one before goes on"


def test_the_expiry_is_signed_and_its_absence_changes_no_signature() -> None:
    limited = replace(DOCUMENT, expires=EXPIRES)
    assert sign_bytes(limited) != sign_bytes(DOCUMENT)
    assert b"expires" not in sign_bytes(DOCUMENT)
    assert parse_catalogue(render_catalogue(limited)) == limited
    assert refusal(DOCUMENT, now_s=4e9) == ""


@pytest.mark.parametrize("expires", ["tomorrow", "2026-13-01T00:00:00Z", NEW, OLD])
def test_an_expiry_that_makes_no_sense_is_refused(expires: str) -> None:
    with pytest.raises(CatalogueError, match="expires"):
        check_document(replace(DOCUMENT, expires=expires))
