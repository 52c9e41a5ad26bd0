"""Damaged and hostile bundles: nothing of a damaged object is imported, one line says why, the others go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cacheserver.bundle import format as fmt
from cacheserver.bundle.importer import Importer
from cacheserver.bundle.keys import load_trusted_key
from cacheserver.bundle.reader import BundleReader
from cacheserver.bundle.volumes import open_object, opened_volumes, stored_ids
from cacheserver.core.errors import BundleError
from cacheserver.store.volume import Volume
from tests.bundle.scene import BODIES, Scene, contents, filled, sections, store_options
from tests.support.content import blob


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
    damaged = scene.directory / "damaged"
    with opened_volumes(store_options(scene.directory / "target")) as volumes:
        for offset in range(0, len(whole), 13):
            damaged.write_bytes(whole)
            flip(damaged, offset, 1 << offset % 8)
            told: list[str] = []
            try:
                with BundleReader(str(damaged), [key]) as reader:
                    report = Importer(volumes=volumes, reader=reader, replace=True, tell=told.append).run()
            except BundleError:
                assert offset < fmt.FILE_HEAD_BYTES
                continue
            assert report.damaged == len(told) > 0, offset
            assert report.imported >= 2 or offset < fmt.FILE_HEAD_BYTES, (offset, told)
            assert taken_out(volumes[0]) <= set(bodies.values())


def taken_out(volume: Volume) -> set[bytes]:
    """The bodies of all objects of a volume, which has none afterwards."""
    bodies = set()
    for each in list(stored_ids(volume)):
        file = open_object(volume, each)
        assert file is not None
        bodies.add(os.pread(file.fd, file.layout.length_bytes, 0))
        file.close()
        os.unlink(volume.path_of(each))
        volume.catalogue.delete(each)
    return bodies


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
