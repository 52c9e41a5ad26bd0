"""Hostile bundles, some of them rightly signed: digests and grammar decide, not the signature."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cacheserver.bundle import format as fmt
from cacheserver.bundle.header import BundledObject, encode_header
from cacheserver.bundle.keys import load_signing_key
from cacheserver.bundle.reader import BundleReader
from cacheserver.bundle.writer import BundleWriter
from cacheserver.core.errors import PieceMismatch
from cacheserver.core.request.keys import object_id
from tests.bundle.scene import BODIES, Scene, contents, filled, opened, put, representation, sections
from tests.support.content import blob

Change = Callable[[dict[str, object]], None]


def changed(**members: object) -> Change:
    """Set members of the JSON header."""
    return lambda header: header.update(members)


def key_of(path: str, service: str = "own", host: str = "cdn.example.test") -> str:
    return f"{service}\n*\n{host}\n{path}\n"


def keyed(key: str) -> Change:
    """Another key with the object id that follows from it."""
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
    def hostile(bundled: BundledObject) -> bytes:
        header = json.loads(encode_header(bundled))
        if bundled.representation.key.rstrip().endswith("two"):
            HOSTILE[name](header)
        return json.dumps(header).encode()

    filled(scene.directory / "source")
    with monkeypatch.context() as patch:
        patch.setattr("cacheserver.bundle.writer.encode_header", hostile)
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
    with BundleWriter(str(scene.bundle), None) as writer:
        found = representation("a", 100)
        with pytest.raises(PieceMismatch):
            writer.add(BundledObject(found, bytes(32), None), [body])
        writer.finish(created_s=0)
    with BundleReader(str(scene.bundle), []) as reader:
        assert (reader.contents_fault, list(reader.objects())) == (None, [])
