"""Export and import of whole bundles: what is selected, what is kept, what an operator is told."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cacheserver.bundle.writer import BundleWriter
from cacheserver.core.errors import DiskError
from cacheserver.core.integrity.trust import Trust
from cacheserver.store.object.file import ObjectFile
from tests.bundle.scene import BODIES, PIECE, Scene, contents, filled, new_keys, opened, put, representation
from tests.support.content import blob
from tests.support.signals import as_from_a_terminal


def test_round_trip_gives_the_same_objects_anchored_and_known_to_the_catalogue(signed: Scene) -> None:
    target = signed.directory / "target"
    ran = signed.take(target)
    assert (ran.code, ran.lines) == (0, [])
    assert "3 objects imported" in ran.out
    before, after = contents(signed.directory / "source"), contents(target)
    assert {name: copy.body for name, copy in after.items()} == BODIES
    for name, copy in after.items():
        assert copy.complete
        assert copy.representation.trust is Trust.ANCHORED
        assert copy.representation.hash_of_hashes is not None
        for part in ("key", "fields", "validators", "request_time_s", "response_time_s", "origin", "path_and_query"):
            assert getattr(copy.representation, part) == getattr(before[name].representation, part)
        assert copy.row == before[name].row


def test_second_import_changes_nothing(signed: Scene) -> None:
    target = signed.directory / "target"
    signed.take(target)
    before = {path: path.stat().st_mtime_ns for path in (target / "objects").rglob("*") if path.is_file()}
    ran = signed.take(target)
    assert (ran.code, "3 already there" in ran.out) == (0, True)
    assert before == {path: path.stat().st_mtime_ns for path in (target / "objects").rglob("*") if path.is_file()}


def test_unsigned_bundles_need_a_word_and_anchor_nothing(scene: Scene) -> None:
    source = scene.directory / "source"
    with opened(source) as volume:
        for name, trust in (("simple", Trust.SIMPLE), ("anchored", Trust.ANCHORED)):
            put(volume, representation(name, 700, trust=trust), blob(1, 700))
    assert "unsigned" in scene.export("all", cache=source, signed=False).out
    assert scene.take(scene.directory / "a").code == 1
    assert scene.run("import", scene.bundle, "--cache-dir", scene.directory / "a").code == 2
    assert scene.take(scene.directory / "b", "--unsigned").code == 0
    found = contents(scene.directory / "b")
    assert found["simple"].representation.trust is Trust.SIMPLE
    assert found["anchored"].representation.trust is Trust.SELF_CONSISTENT


def test_signed_import_over_an_unsigned_one_raises_the_trust(signed: Scene) -> None:
    target = signed.directory / "target"
    signed.take(target, "--unsigned")
    assert contents(target)["one"].representation.trust is Trust.SIMPLE
    assert "3 objects imported" in signed.take(target).out
    assert contents(target)["one"].representation.trust is Trust.ANCHORED


def test_other_signers_are_refused_and_any_trusted_one_will_do(signed: Scene) -> None:
    other = new_keys(signed.directory, "other")
    ran = signed.run("import", signed.bundle, "--cache-dir", signed.directory / "a", "--trusted", other.public)
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert "not signed by a trusted key" in ran.lines[0]
    assert not (signed.directory / "a").exists()
    assert signed.take(signed.directory / "a", "--trusted", other.public).code == 0


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (["all"], {"one", "two", "three"}),
        (["own"], {"one", "two", "three"}),
        (["cdn.example.test/files/t*"], {"two", "three"}),
        (["*/one", "*/two"], {"one", "two"}),
        (["*.example.test/*"], {"one", "two", "three"}),
    ],
)
def test_selection(scene: Scene, selection: list[str], names: set[str]) -> None:
    filled(scene.directory / "source")
    assert scene.export(*selection, cache=scene.directory / "source").code == 0
    scene.take(scene.directory / "target")
    assert set(contents(scene.directory / "target")) == names


def test_selection_by_object_id_and_of_nothing(scene: Scene) -> None:
    ids = filled(scene.directory / "source")
    assert scene.export(ids["two"], ids["two"], "0" * 32, cache=scene.directory / "source").code == 0
    scene.take(scene.directory / "target")
    assert set(contents(scene.directory / "target")) == {"two"}
    scene.bundle.unlink()
    ran = scene.export("other", "*/four", cache=scene.directory / "source")
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert not list(scene.directory.glob("bundle*"))


def test_incomplete_and_damaged_objects_are_left_out_and_named(scene: Scene) -> None:
    source = scene.directory / "source"
    filled(source)
    with opened(source) as volume:
        put(volume, representation("part", 3 * PIECE), blob(4, 3 * PIECE), pieces=2)
        rotten = put(volume, representation("rotten", 3 * PIECE), blob(5, 3 * PIECE))
        with open(volume.path_of(rotten), "r+b") as file:
            file.seek(2 * PIECE + 9)
            file.write(b"rot")
    ran = scene.export("all", cache=source)
    assert ran.code == 1
    assert sorted(ran.lines) == [
        "cacheserver: cdn.example.test/files/part: left out: only 2MiB of 3MiB are here",
        "cacheserver: cdn.example.test/files/rotten: left out: piece 2 does not match the stored digest",
    ]
    assert scene.take(scene.directory / "target").code == 0
    assert {name: copy.body for name, copy in contents(scene.directory / "target").items()} == BODIES


def test_pieces_of_another_size_and_empty_objects_travel_without_a_manifest(scene: Scene) -> None:
    source, body = scene.directory / "source", blob(6, 200_000)
    with opened(source) as volume:
        put(volume, representation("small", len(body), piece_bytes=1 << 16), body)
        put(volume, representation("empty", 0), b"")
    assert scene.export("all", cache=source).code == 0
    assert scene.take(scene.directory / "target").code == 0
    found = contents(scene.directory / "target")
    assert (found["small"].body, found["small"].representation.piece_size_bytes) == (body, 1 << 16)
    assert (found["empty"].body, found["empty"].complete) == (b"", True)
    assert {copy.representation.hash_of_hashes for copy in found.values()} == {None}


def test_complete_object_of_another_generation_is_kept_unless_told(signed: Scene) -> None:
    target, other = signed.directory / "target", blob(9, 700)
    with opened(target) as volume:
        put(volume, representation("two", 700), other)
        put(volume, representation("one", 2 * PIECE + 5), blob(9, 2 * PIECE + 5), pieces=1)
    ran = signed.take(target)
    assert (ran.code, len(ran.lines)) == (0, 1)
    assert "another generation" in ran.lines[0]
    assert {name: copy.body for name, copy in contents(target).items()} == BODIES | {"two": other}
    assert signed.take(target, "--replace").code == 0
    found = contents(target)
    assert {name: copy.body for name, copy in found.items()} == BODIES
    with opened(target) as volume:
        rows = [copy.row.stored_bytes for copy in found.values() if copy.row]
        assert volume.ledger.stored_bytes == sum(rows) == volume.catalogue.stored_bytes_total()


def test_directory_that_a_node_holds_is_one_line(signed: Scene) -> None:
    with opened(signed.directory / "source"):
        for ran in (
            signed.run("export", "all", signed.directory / "b2", "--cache-dir", signed.directory / "source"),
            signed.take(signed.directory / "source"),
        ):
            assert (ran.code, len(ran.lines)) == (2, 1)
            assert "in use by another node" in ran.lines[0]
    assert not (signed.directory / "b2").exists()


def test_cache_that_is_too_small_stops_cleanly(signed: Scene) -> None:
    target = signed.directory / "target"
    ran = signed.take(target, "--max-size", "2MiB")
    assert ran.code == 1
    assert "stopped at" in ran.lines[-1]
    assert "missing" in ran.lines[-1]
    for name, copy in contents(target).items():
        assert copy.body == BODIES[name]


@pytest.mark.parametrize("failing", ["write_at", "record_piece", "sync"])
def test_full_disk_leaves_whole_objects_and_nothing_else(
    signed: Scene, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, calls = signed.directory / "target", 0
    right = getattr(ObjectFile, failing)

    def full(self: ObjectFile, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise DiskError("write: No space left on device", errno=errno.ENOSPC)
        right(self, *arguments)

    monkeypatch.setattr(ObjectFile, failing, full)
    ran = signed.take(target)
    monkeypatch.undo()
    assert ran.code == 1
    assert "No space left" in ran.lines[-1]
    found = contents(target)
    assert len(found) < 3
    assert all(copy.body == BODIES[name] and copy.complete for name, copy in found.items())
    assert signed.take(target).code == 0
    assert {name: copy.body for name, copy in contents(target).items()} == BODIES


def test_fault_while_an_object_gets_its_name_leaves_no_trace(signed: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    right = os.rename

    def refused(old: str, new: str) -> None:
        if old.endswith(".import"):
            raise OSError(errno.EIO, "Input/output error")
        right(old, new)

    target = signed.directory / "target"
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refused)
        ran = signed.take(target)
    assert (ran.code, "Input/output error" in ran.lines[-1]) == (1, True)
    assert contents(target) == {}


def test_mark_of_a_clean_stop_stays_right_and_is_never_invented(signed: Scene) -> None:
    target = signed.directory / "target"
    assert signed.take(target, "--unsigned").code == 0
    assert not (target / "clean").exists(), "nobody has looked at every file yet"
    stored = sum(copy.row.stored_bytes for copy in contents(target).values() if copy.row)
    (target / "clean").write_text(str(stored))
    assert signed.take(target).code == 0
    assert signed.run("export", "all", signed.directory / "again", "--cache-dir", target).code == 0
    assert (target / "clean").read_text() == str(stored)


def test_interrupted_export_leaves_no_bundle(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(scene.directory / "source")

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cacheserver.bundle.writer.hashlib.sha256", interrupt)
    assert scene.export("all", cache=scene.directory / "source").code == 1
    monkeypatch.undo()
    assert not list(scene.directory.glob("bundle*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "all"],
        ["export", "all", "b", "--key", "/nowhere"],
        ["import", "b"],
        ["import", "b", "--unsigned", "--trusted", "x"],
        ["import", "b", "--trusted", "/nowhere"],
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(scene: Scene, arguments: list[str]) -> None:
    ran = scene.run(*arguments, "--cache-dir", scene.directory / "c")
    assert (ran.code, len(ran.lines), ran.out) == (2, 1, "")


def test_keys_of_other_kinds_are_refused_and_base64_is_taken(signed: Scene) -> None:
    from cacheserver.bundle.keys import load_trusted_key, raw_public
    from cacheserver.core.integrity.digest_text import to_base64

    raw = raw_public(load_trusted_key(str(signed.keys.public)))
    ran = signed.run("import", signed.bundle, "--cache-dir", signed.directory / "t", "--trusted", to_base64(raw))
    assert ran.code == 0
    for flag, path in (("--trusted", signed.keys.private), ("--trusted", signed.bundle)):
        assert signed.run("import", signed.bundle, "--cache-dir", signed.directory / "t", flag, path).code == 2
    ran = signed.run("export", "all", signed.bundle, "--cache-dir", signed.directory / "t", "--key", signed.keys.public)
    assert ran.code == 2


def test_phf_in_the_bundle_is_the_published_form(signed: Scene) -> None:
    data = signed.bundle.read_bytes()
    start = data.index(b'{"MajorVersion":1,"MinorVersion":0,"HashOfHashes":')
    phf = data[start : data.index(b"]}", start) + 2]
    assert b'"ContentLength":' in phf
    assert b'"PieceSize":1048576' in phf
    assert hashlib.sha256(phf).digest()


def test_missing_bundle_is_one_line(scene: Scene) -> None:
    ran = scene.run("import", Path("/nowhere/b"), "--unsigned", "--cache-dir", scene.directory / "c")
    assert (ran.code, len(ran.lines)) == (1, 1)


def test_two_exports_to_one_name_do_not_mix(scene: Scene) -> None:
    source = scene.directory / "source"
    filled(source)
    with BundleWriter(str(scene.bundle), None):
        ran = scene.export("all", cache=source)
        assert (ran.code, "another export is writing" in ran.lines[0]) == (1, True)
    assert scene.export("all", cache=source).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_told_to_end_leaves_nothing_behind(scene: Scene, number: signal.Signals) -> None:
    source = scene.directory / "source"
    filled(source)
    code = (
        "import os, time; from cacheserver.bundle.exporter import Exporter; from cacheserver.__main__ import main\n"
        f"Exporter.export = lambda *_: os.kill(os.getpid(), {number:d}) or time.sleep(30)\nmain()"
    )
    command = [sys.executable, "-c", code, "export", "all", str(scene.bundle), "--cache-dir", str(source)]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, preexec_fn=as_from_a_terminal)
    assert (done.returncode, done.stderr) == (-number, b"")
    assert not list(scene.bundle.parent.glob(f"{scene.bundle.name}*"))
