"""The fetch command against local origins: the documented workflow, step by step, and its exit codes."""

from __future__ import annotations

import json

import pytest

from tests.fetch.scene import HOST, PATH, PIECE, QUERY, URL, Scene, manifest_of
from tests.support.content import Content, Fault, blob
from tests.support.origin import Origin

SIZE = 3 * PIECE + 12_345


async def test_metadata_first_then_aligned_pieces_then_exit_code_by_trust(scene: Scene) -> None:
    scene.hold(SIZE)
    for arguments, code, trust in (
        (["--hash-of-hashes", scene.hash_of_hashes], 0, "anchored"),
        (["--sha256", scene.sha256], 0, "anchored"),
        ([], 3, "self_consistent"),
        (["--allow-unverified"], 0, "self_consistent"),
    ):
        scene.origin.requests.clear()
        outcome = await scene.fetch(*arguments)
        assert (outcome.code, outcome.facts["trust"], outcome.facts["exit_code"]) == (code, trust, code), outcome.err
        assert scene.written()
        assert scene.origin.requests[0].target == f"{PATH}/pieceshash"
        assert {record.target for record in scene.origin.requests[1:]} == {f"{PATH}{QUERY}"}
        assert sorted(scene.pieces_asked(scene.origin)) == [0, 1, 2, 3]
        assert outcome.facts["hash_of_hashes"] == scene.hash_of_hashes
        assert outcome.facts["sha256"] == scene.sha256
        assert QUERY not in outcome.out + outcome.err


async def test_without_metadata_simple_mode_is_complete_but_unverified(scene: Scene) -> None:
    scene.hold(SIZE)
    scene.origin.fault(f"{PATH}/pieceshash", always=Fault.refusing(404))
    for arguments, code, trust in (
        ([], 4, "simple"),
        (["--allow-unverified"], 0, "simple"),
        (["--sha256", scene.sha256], 0, "anchored"),
        (["--hash-of-hashes", scene.hash_of_hashes], 0, "anchored"),
    ):
        scene.origin.requests.clear()
        outcome = await scene.fetch(*arguments)
        assert (outcome.code, outcome.facts["trust"], outcome.facts["mode"]) == (code, trust, "simple")
        assert "simple mode" in outcome.err
        assert scene.written()
        assert [record.range for record in scene.origin.asked(PATH)] == [None]


async def test_cache_host_form_keeps_path_and_query_and_puts_the_pair_last(scene: Scene, cache: Origin) -> None:
    scene.hold(SIZE)
    scene.mirror(cache)
    outcome = await scene.fetch("--cache-host", cache.address, "--hash-of-hashes", scene.hash_of_hashes)
    assert outcome.code == 0, outcome.err
    assert {record.target for record in cache.requests} == {f"{PATH}{QUERY}&cacheHostOrigin={HOST}"}
    assert {record.fields.value("Host") for record in cache.requests} == {cache.address}
    assert sorted(scene.pieces_asked(cache)) == [0, 1, 2, 3]
    assert not scene.origin.asked(PATH)
    assert outcome.source(cache.address) | {"source": ""} == {
        "source": "",
        "kind": "cache_host",
        "pieces": 4,
        "bytes": SIZE,
        "strikes": 0,
        "banned": None,
    }


async def test_bad_piece_is_discarded_and_fetched_from_elsewhere(scene: Scene, cache: Origin) -> None:
    scene.hold(SIZE)
    scene.mirror(cache)
    cache.fault(PATH, always=Fault(flip_at=SIZE - 1))
    outcome = await scene.fetch("--cache-host", cache.address, "--hash-of-hashes", scene.hash_of_hashes)
    assert outcome.code == 0, outcome.err
    assert scene.written()
    assert scene.pieces_asked(scene.origin) == [3]
    assert (outcome.source(cache.address)["strikes"], outcome.source(cache.address)["banned"]) == (1, None)
    assert "piece 3" in outcome.err


async def test_three_bad_pieces_ban_a_source(scene: Scene, cache: Origin) -> None:
    scene.hold(8 * PIECE)
    scene.mirror(cache, blob(2, 8 * PIECE))
    outcome = await scene.fetch(
        "--cache-host", cache.address, "--hash-of-hashes", scene.hash_of_hashes, "--connections", "1"
    )
    assert outcome.code == 0, outcome.err
    assert scene.written()
    assert len(cache.asked(PATH)) == 3
    assert outcome.source(cache.address)["banned"] == "3 bad pieces"
    assert sorted(scene.pieces_asked(scene.origin)) == list(range(8))


async def test_without_a_good_source_nothing_is_written(scene: Scene) -> None:
    scene.hold(SIZE)
    scene.origin.add(PATH, Content(blob(2, SIZE), etag='"v1"'))
    scene.output.write_bytes(b"older")
    outcome = await scene.fetch("--hash-of-hashes", scene.hash_of_hashes)
    assert outcome.code == 1
    assert outcome.facts["exit_code"] == 1
    assert "3 bad pieces" in outcome.facts["error"]
    assert outcome.err.splitlines()[-1].startswith("cacheserver: error: no source is left")
    assert scene.output.read_bytes() == b"older"


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


BODY = blob(1, SIZE)
PHF = manifest_of(BODY).render()


@pytest.mark.parametrize(
    "phf",
    [
        flipped(PHF, len(PHF) - 10),
        PHF[:-1],
        b"<html>sign in</html>",
        b"",
        PHF.replace(b"1048576", b"0"),
        PHF.replace(b"1048576", b"1099511627776"),
        PHF.replace(b'"MajorVersion":1', b'"MajorVersion":1,"MajorVersion":1'),
    ],
)
async def test_manifest_that_cannot_be_used_is_named_and_means_simple_mode(scene: Scene, phf: bytes) -> None:
    scene.hold(SIZE, phf=phf)
    outcome = await scene.fetch()
    assert (outcome.code, outcome.facts["mode"]) == (4, "simple")
    assert "no manifest from" in outcome.err
    assert scene.written()
    named = scene.directory / "phf"
    named.write_bytes(phf)
    scene.output.unlink()
    outcome = await scene.fetch("--manifest", str(named))
    assert outcome.code == 1
    assert "manifest cannot be used" in outcome.err
    assert scene.nothing_written()


async def test_manifest_of_another_content_never_yields_a_file(scene: Scene) -> None:
    for other in (blob(2, SIZE), blob(2, SIZE + 1), blob(1, SIZE - PIECE)):
        scene.hold(SIZE, phf=manifest_of(other).render())
        outcome = await scene.fetch()
        assert outcome.code == 1, outcome.err
        assert scene.nothing_written()


async def test_forged_but_consistent_manifest_is_caught_by_the_hash_of_hashes(scene: Scene) -> None:
    forged = blob(2, SIZE)
    scene.hold(SIZE, phf=manifest_of(forged).render())
    right = scene.hash_of_hashes
    scene.origin.add(PATH, Content(forged, etag='"v1"'))
    assert (await scene.fetch()).code == 3
    scene.output.unlink()
    outcome = await scene.fetch("--hash-of-hashes", right)
    assert outcome.code == 1
    assert "hash of hashes" in outcome.err
    assert list(scene.directory.iterdir()) == []


@pytest.mark.parametrize("metadata", [True, False])
async def test_whole_file_that_is_not_the_one_asked_for_is_discarded(scene: Scene, metadata: bool) -> None:
    scene.hold(SIZE)
    if not metadata:
        scene.origin.fault(f"{PATH}/pieceshash", always=Fault.refusing(404))
    outcome = await scene.fetch("--sha256", "00" * 32)
    assert outcome.code == 1
    assert "SHA-256" in outcome.err
    assert list(scene.directory.iterdir()) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(truncate_after=1000),
        Fault(reset_after=PIECE // 2),
        Fault(range_shift=1),
        Fault(range_total=SIZE + 1),
        Fault(ignore_range=True),
        Fault(multipart=True),
        Fault(gzip=True),
        Fault(close_before_head=True),
        Fault.refusing(503),
        Fault(raw=b"no http\r\n\r\n"),
    ],
)
async def test_faulty_answer_is_tried_again_elsewhere(scene: Scene, cache: Origin, fault: Fault) -> None:
    scene.hold(SIZE)
    scene.mirror(cache)
    cache.fault(PATH, fault, fault)
    outcome = await scene.fetch("--cache-host", cache.address, "--hash-of-hashes", scene.hash_of_hashes)
    assert outcome.code == 0, outcome.err
    assert scene.written()
    assert outcome.source(cache.address)["strikes"] == 0


async def test_client_error_of_a_cache_host_sends_everything_to_the_origin(scene: Scene, cache: Origin) -> None:
    scene.hold(SIZE)
    scene.mirror(cache)
    cache.fault(PATH, always=Fault.refusing(403))
    outcome = await scene.fetch("--cache-host", cache.address, "--connections", "1")
    assert outcome.code == 3
    assert len(cache.asked(PATH)) == 1
    assert outcome.source(cache.address)["banned"] == "origin answered 403"


async def test_no_origin_never_asks_the_origin(scene: Scene, cache: Origin) -> None:
    scene.hold(SIZE)
    scene.mirror(cache)
    cache.add(f"{PATH}/pieceshash", Content(manifest_of(scene.body).render()))
    outcome = await scene.fetch("--cache-host", cache.address, "--no-origin")
    assert outcome.code == 3
    assert scene.written()
    assert not scene.origin.requests


@pytest.mark.parametrize(("hops", "code"), [(5, 3), (6, 1)])
async def test_five_redirects_are_followed(scene: Scene, hops: int, code: int) -> None:
    scene.hold(SIZE)
    body = Content(scene.body, etag='"v1"')
    for hop in range(hops):
        path = PATH if hop == 0 else f"/hop{hop}"
        scene.origin.add(path, body)
        scene.origin.fault(path, always=Fault.redirecting(f"/hop{hop + 1}"))
    scene.origin.add(f"/hop{hops}", body)
    assert (await scene.fetch()).code == code


async def test_manifest_named_by_url_is_used_for_any_host(scene: Scene) -> None:
    scene.hold(SIZE)
    scene.origin.add("/file.bin", Content(scene.body))
    base = f"http://{scene.origin.address}"
    outcome = await scene.fetch("--manifest", f"{base}{PATH}/pieceshash", url=f"{base}/file.bin")
    assert (outcome.code, outcome.facts["mode"]) == (3, "pieces")
    assert scene.written()


async def test_output_line_and_quiet(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.hold(SIZE)
    outcome = await scene.fetch()
    assert json.loads(outcome.out)["bytes"] == SIZE
    quiet = await scene.fetch("--quiet")
    assert (quiet.code, quiet.err) == (3, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://h.example/x", "-o", "x"],
        ["http://u@h.example/x", "-o", "x"],
        ["http://h.example/a/../b", "-o", "x"],
        [URL],
        [URL, "-o", "/tmp/"],
        [URL, "-o", "x", "--no-origin"],
        [URL, "-o", "x", "--cache-host", "a b"],
        [URL, "-o", "x", "--cache-host", "ftp://a"],
        [URL, "-o", "x", "--sha256", "00"],
        [URL, "-o", "x", "--hash-of-hashes", "AAAA"],
        [URL, "-o", "x", "--hash-of-hashes", "!"],
        [URL, "-o", "x", "--connections", "0"],
        [URL, "-o", "x", "--connect-to", "a"],
        [URL, "-o", "x", "--manifest", "ftp://a/b"],
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from cacheserver.cli import main as cli

    assert cli.run(["fetch", *arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


async def test_unwritable_output_is_one_line_and_exit_1(scene: Scene) -> None:
    scene.hold(10)
    scene.directory = scene.directory / "missing"
    outcome = await scene.fetch()
    assert outcome.code == 1
    assert outcome.err.startswith("cacheserver: error: cannot open the output")


async def test_a_fetch_that_cannot_go_on_gives_the_room_back(scene: Scene) -> None:
    scene.hold(3 * PIECE, etag=None, phf=b"none")
    scene.origin.fault(PATH, always=Fault(truncate_after=2 * PIECE))
    assert (await scene.fetch("--quiet")).code == 1
    assert [path.stat().st_size for path in scene.directory.iterdir()] == [0]


def test_a_device_is_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    from cacheserver.cli import main as cli

    assert cli.run(["fetch", URL, "-o", "/dev/null"]) == 2
    assert "device" in capsys.readouterr().err


async def test_a_cache_host_that_drips_is_left_for_the_origin(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheserver.upstream.client._RATE_WINDOW_S", 0.2)
    async with Origin() as cache:
        for phf, code in ((None, 3), (b"none", 4)):
            scene.hold(2 * PIECE, phf=phf)
            scene.mirror(cache)
            cache.fault(PATH, always=Fault(rate_bps=50.0))
            outcome = await scene.fetch("--cache-host", cache.address)
            assert (outcome.code, scene.written()) == (code, True)
            assert "too slowly" in outcome.err
