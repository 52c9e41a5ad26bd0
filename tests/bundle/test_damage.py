"""Damaged and hostile bundles: nothing of a damaged object is imported, one line says why, the others go on."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cacheserver.bundle.importer import Importer
from cacheserver.bundle.keys import load_signing_key, load_trusted_key
from cacheserver.bundle.reader import BundleReader
from cacheserver.bundle.volumes import opened_volumes
from cacheserver.bundle.writer import BundleWriter
from cacheserver.core import bundle_format as fmt
from cacheserver.core.bundle_header import BundledObject
from cacheserver.core.errors import BundleError
from tests.bundle.scene import BODIES, Scene, contents, filled, opened, put, representation, store_options
from tests.support.content import blob

NAMES = ("one", "three", "two")


def sections(scene: Scene) -> dict[str, fmt.Entry]:
    """The contents of the scene's bundle, by object name."""
    data = scene.bundle.read_bytes()
    tail = fmt.decode_tail(data[-fmt.TAIL_BYTES :], file_bytes=len(data))
    raw = data[tail.contents_offset : tail.contents_offset + tail.contents_bytes]
    entries = fmt.decode_contents(raw, contents_offset=tail.contents_offset).objects
    names = {representation(name, 1).object_id: name for name in NAMES}
    return {names[entry.object_id]: entry for entry in entries}


def flip(path: Path, offset: int, bit: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ bit,)))


def parts(scene: Scene) -> dict[str, int]:
    """A byte offset in each part of the object "two", and in each part of the end."""
    entry, data = sections(scene)["two"], scene.bundle.read_bytes()
    head = fmt.decode_section_head(
        data[entry.offset : entry.offset + fmt.SECTION_HEAD_BYTES], room_bytes=entry.section_bytes
    )
    start = entry.offset + fmt.SECTION_HEAD_BYTES
    return {
        "magic": entry.offset + 2,
        "lengths": entry.offset + 9,
        "piece count": entry.offset + 16,
        "body length": entry.offset + 24,
        "digest": entry.offset + 33,
        "seal": entry.offset + 70,
        "header": start + 12,
        "phf": start + head.header_bytes + 90,
        "piece digest": start + head.header_bytes + head.phf_bytes + 3,
        "body, first byte": start + head.metadata_bytes,
        "body, last byte": entry.offset + entry.section_bytes - 1,
    }


PARTS = (
    "magic",
    "lengths",
    "piece count",
    "body length",
    "digest",
    "seal",
    "header",
    "phf",
    "piece digest",
    "body, first byte",
    "body, last byte",
)


@pytest.mark.parametrize("part", PARTS)
def test_flipped_byte_costs_its_object_alone(signed: Scene, part: str) -> None:
    flip(signed.bundle, parts(signed)[part])
    ran = signed.take(signed.directory / "target")
    assert (ran.code, len(ran.lines)) == (1, 1), ran.lines
    assert "not imported: " in ran.lines[0]
    found = contents(signed.directory / "target")
    assert {name: copy.body for name, copy in found.items()} == {name: BODIES[name] for name in ("one", "three")}


@pytest.mark.parametrize("part", [part for part in PARTS if part != "seal"])
def test_flipped_byte_is_found_without_a_signature_too(scene: Scene, part: str) -> None:
    filled(scene.directory / "source")
    scene.export("all", cache=scene.directory / "source", signed=False)
    flip(scene.bundle, parts(scene)[part])
    ran = scene.take(scene.directory / "target", "--unsigned")
    assert (ran.code, len(ran.lines)) == (1, 1), ran.lines
    assert set(contents(scene.directory / "target")) == {"one", "three"}


@pytest.mark.parametrize("from_end", [1, 9, 17, 25, 80, 100, 130, 200])
def test_damaged_contents_are_named_and_sealed_objects_still_found(signed: Scene, from_end: int) -> None:
    flip(signed.bundle, signed.bundle.stat().st_size - from_end)
    ran = signed.take(signed.directory / "target")
    assert ran.code == 1
    assert ran.lines[0].startswith("cacheserver: table of contents: ")
    assert {name: copy.body for name, copy in contents(signed.directory / "target").items()} == BODIES


@pytest.mark.parametrize("offset", [0, 9, 20, 40])
def test_damaged_file_head_imports_nothing(signed: Scene, offset: int) -> None:
    flip(signed.bundle, offset)
    ran = signed.take(signed.directory / "target")
    assert ran.code == 1
    assert not (signed.directory / "target").exists() or contents(signed.directory / "target") == {}


def test_trailing_garbage_is_named(signed: Scene) -> None:
    with open(signed.bundle, "ab") as file:
        file.write(b"garbage")
    ran = signed.take(signed.directory / "target")
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert "something was added" in ran.lines[0]
    assert {name: copy.body for name, copy in contents(signed.directory / "target").items()} == BODIES


def test_cut_bundle_yields_the_whole_objects_before_the_cut(signed: Scene) -> None:
    order = sorted(sections(signed).items(), key=lambda item: item[1].offset)
    size = signed.bundle.stat().st_size
    whole = signed.bundle.read_bytes()
    stops = [entry.offset + entry.section_bytes for _, entry in order]
    cuts = [0, 5, fmt.FILE_HEAD_BYTES, order[1][1].offset + 50, *(stop - 1 for stop in stops), *stops, size - 1]
    for number, cut in enumerate(cuts):
        signed.bundle.write_bytes(whole[:cut])
        ran = signed.take(signed.directory / f"target{number}")
        assert ran.code == 1, cut
        assert 1 <= len(ran.lines) <= 2
        target = signed.directory / f"target{number}"
        found = contents(target) if target.exists() else {}
        assert set(found) == {name for name, entry in order if entry.offset + entry.section_bytes <= cut}
        assert all(copy.body == BODIES[name] for name, copy in found.items())


def test_any_flipped_byte_anywhere_never_brings_a_wrong_byte_in(scene: Scene) -> None:
    bodies = {f"n{number}": blob(number, 300 + number) for number in range(3)}
    filled(scene.directory / "source", bodies)
    scene.export("all", cache=scene.directory / "source")
    whole, key = scene.bundle.read_bytes(), load_trusted_key(str(scene.keys.public))
    target, damaged = scene.directory / "target", scene.directory / "damaged"
    with opened_volumes(store_options(target)) as volumes:
        for offset in range(0, len(whole), 13):
            damaged.write_bytes(whole)
            flip(damaged, offset, 1 << offset % 8)
            told: list[str] = []
            try:
                with BundleReader(str(damaged), [key]) as reader:
                    report = Importer(volumes=volumes, reader=reader, replace=False, tell=told.append).run()
            except BundleError:
                continue
            assert report.damaged
            assert told, offset
            assert report.imported + report.unchanged >= 2, (offset, told)
    found = contents(target)
    assert {name: copy.body for name, copy in found.items()} == bodies


def test_objects_of_another_bundle_of_the_same_signer_are_refused(signed: Scene) -> None:
    """A section is bound to its bundle, so that nobody can put bundles together anew."""
    other = replace_bundle(signed, "other")
    filled(signed.directory / "elsewhere", {"two": blob(8, 700)})
    signed.run("export", "all", other, "--cache-dir", signed.directory / "elsewhere", "--key", signed.keys.private)
    entry, foreign = sections(signed)["two"], other.read_bytes()
    section = foreign[fmt.FILE_HEAD_BYTES : fmt.FILE_HEAD_BYTES + entry.section_bytes]
    data = bytearray(signed.bundle.read_bytes())
    data[entry.offset : entry.offset + entry.section_bytes] = section
    signed.bundle.write_bytes(data[: sections(signed)["two"].offset + entry.section_bytes])
    ran = signed.take(signed.directory / "target")
    assert ran.code == 1
    assert contents(signed.directory / "target").get("two") is None


def replace_bundle(scene: Scene, name: str) -> Path:
    return scene.directory / name


Change = Callable[[dict[str, object]], None]


def changed(**members: object) -> Change:
    """Set members of the JSON header."""
    return lambda header: header.update(members)


def key_of(path: str, service: str = "own", host: str = "cdn.example.test") -> str:
    return f"{service}\n*\n{host}\n{path}\n"


def keyed(key: str) -> Change:
    """Another key with the object id that follows from it."""
    from cacheserver.core.keys import object_id

    return changed(key=key, object_id=object_id(key))


HOSTILE: dict[str, Change] = {
    "id with a path": changed(object_id="../../../../etc/passwd"),
    "id of another key": changed(object_id="0" * 32),
    "path with dot segments": keyed(key_of("/../../etc/passwd")),
    "escaped dot segments": keyed(key_of("/%2e%2e/x")),
    "control character in the key": keyed(key_of("/a\x1b[31m")),
    "NUL in the key": keyed(key_of("/a\x00")),
    "too many lines in the key": keyed(key_of("/a\n/b")),
    "another service in the key": keyed(key_of("/a", service="other")),
    "host that is none": keyed(key_of("/a", host="a/b")),
    "response splitting": changed(fields=[["X", "a\r\nSet-Cookie: b"]]),
    "framing field": changed(fields=[["Transfer-Encoding", "chunked"]]),
    "length field": changed(fields=[["Content-Length", "1"]]),
    "field name that is none": changed(fields=[["X Y", "a"]]),
    "entity tag that is none": changed(etag='"a\r\n"'),
    "date with a line break": changed(last_modified="x\r\ny: z"),
    "origin that is none": changed(origin="file:///etc/passwd"),
    "origin with a user": changed(origin="http://u@h.example"),
    "target that is none": changed(path_and_query="/a\r\nb"),
    "negative length": changed(length=-1),
    "huge length": changed(length=1 << 62),
    "length that is not the body's": changed(length=701),
    "piece size 0": changed(piece_size=0),
    "piece size 1": changed(piece_size=1),
    "piece size that is no power of two": changed(piece_size=(1 << 20) + 1),
    "huge piece size": changed(piece_size=1 << 40),
    "trust above all": changed(trust=3),
    "negative time": changed(request_time=-1.0),
    "huge time": changed(response_time=1e300),
    "no digest of the manifest": changed(phf_sha256=None),
    "another member": changed(extra=1),
    "a number for a name": changed(service=1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_header_under_a_right_signature_is_refused_in_one_line(
    scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cacheserver.bundle import writer

    right = writer.encode_header

    def hostile(bundled: BundledObject) -> bytes:
        header = json.loads(right(bundled))
        if bundled.representation.key.rstrip().endswith("two"):
            HOSTILE[name](header)
        return json.dumps(header).encode()

    filled(scene.directory / "source")
    with monkeypatch.context() as patch:
        patch.setattr(writer, "encode_header", hostile)
        assert scene.export("all", cache=scene.directory / "source").code == 0
    ran = scene.take(scene.directory / "target")
    assert (ran.code, len(ran.lines)) == (1, 1), ran.lines
    assert ran.lines[0].isprintable()
    found = contents(scene.directory / "target")
    assert set(found) == {"one", "three"}


def test_wrong_body_under_a_right_signature_is_refused(scene: Scene) -> None:
    """The signer's own disk may have lied: digests decide, not the signature."""
    filled(scene.directory / "source")
    with opened(scene.directory / "source") as volume:
        put(volume, representation("zero", 700), bytes(700))
    scene.export("all", cache=scene.directory / "source")
    data = scene.bundle.read_bytes()
    at = data.index(bytes(700))
    scene.bundle.write_bytes(data[:at] + b"\x01" + data[at + 1 :])
    ran = scene.take(scene.directory / "target")
    assert ran.lines == [ran.lines[0]]
    assert "piece 0 does not match its digest" in ran.lines[0]
    assert set(contents(scene.directory / "target")) == set(BODIES)


def test_hostile_lengths_size_nothing(scene: Scene) -> None:
    """Numbers up to 2**64 in every length field of a file of a few hundred bytes."""
    head = fmt.FileHead(bytes(16), fmt.UNSIGNED_KEY).encode()
    values = (0, 1, 2**31, 2**32 - 1)
    large = (0, 1, 2**46, 2**63, 2**64 - 1)
    for header, phf, count, body in itertools.product(values, values, large, large):
        section = struct.pack("<8sIIQQ", b"CSBOBJCT", header, phf, count, body) + bytes(96)
        tail = fmt.Tail(body, count).encode()
        scene.bundle.write_bytes(head + section + tail)
        with BundleReader(str(scene.bundle), []) as reader:
            assert reader.contents_fault is not None
            assert not any(hasattr(found, "bundled") for found in reader.objects())


def test_contents_that_lie_are_refused_though_signed(signed: Scene) -> None:
    key = load_signing_key(str(signed.keys.private))
    data = signed.bundle.read_bytes()
    head = fmt.decode_file_head(data[: fmt.FILE_HEAD_BYTES])
    entries = sorted(sections(signed).values(), key=lambda entry: entry.offset)
    lies = [
        [*entries, entries[0]],
        entries[:-1],
        [replace_entry(entries[0], offset=0), *entries[1:]],
        [replace_entry(entries[0], section_bytes=1), *entries[1:]],
        [replace_entry(entries[0], section_bytes=2**62), *entries[1:]],
    ]
    stop = entries[-1].offset + entries[-1].section_bytes
    for number, lie in enumerate(lies):
        signed.bundle.write_bytes(data[:stop] + end(head, lie, stop, key))
        ran = signed.take(signed.directory / f"target{number}")
        assert ran.code == 1
        assert "does not fit the file" in ran.lines[0]
    swapped = [replace_entry(entries[0], digest="00" * 32), *entries[1:]]
    signed.bundle.write_bytes(data[:stop] + end(head, swapped, stop, key))
    ran = signed.take(signed.directory / "swapped")
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert len(contents(signed.directory / "swapped")) == 2


def replace_entry(entry: fmt.Entry, **members: object) -> fmt.Entry:
    import msgspec

    return msgspec.structs.replace(entry, **members)


def end(head: fmt.FileHead, entries: list[fmt.Entry], offset: int, key: Ed25519PrivateKey) -> bytes:
    """Contents, seal and tail, rightly signed."""
    raw = fmt.encode_contents(fmt.Contents(0, entries))
    digest = fmt.contents_digest(head, raw)
    return raw + digest + key.sign(fmt.contents_message(digest)) + fmt.Tail(offset, len(raw)).encode()


def test_seal_of_an_object_is_none_for_contents() -> None:
    digest = bytes(32)
    assert fmt.object_message(digest) != fmt.contents_message(digest)


def test_writer_takes_a_section_back(scene: Scene) -> None:
    body = blob(1, 100)
    filled(scene.directory / "source", {"a": body})
    with BundleWriter(str(scene.bundle), None) as writer:
        found = replace(representation("a", 100))
        from cacheserver.core.errors import PieceMismatch

        with pytest.raises(PieceMismatch):
            writer.add(BundledObject(found, bytes(32), None), [body])
        writer.finish(created_s=0)
    with BundleReader(str(scene.bundle), []) as reader:
        assert (reader.contents_fault, list(reader.objects())) == (None, [])
    shutil.rmtree(scene.directory / "source")
