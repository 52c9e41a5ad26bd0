"""``cacheserver catalogue``: the whole work of an operator, and one line for every mistake."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from cacheserver.cli import changing
from cacheserver.cli import main as cli
from cacheserver.cli.catalogue import catalogue_group
from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.content_catalogue import render_catalogue
from cacheserver.core.integrity.digest_text import to_base64
from cacheserver.core.integrity.manifest import Manifest
from cacheserver.system.regular_file import folder_held
from cacheserver.trust.catalogue_anchor import CatalogueAnchor, read_document
from cacheserver.trust.issued import Issued
from cacheserver.trust.signing import sign
from tests.support.targets import admitted
from tools import reference

MIB = 1 << 20
GUID = "7bc846e0-af9c-49be-a03d-bb04428c9bb5"
CONTENT = bytes(range(256)) * 8192 + b"tail"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a key pair, a second one, and a content."""
    monkeypatch.chdir(tmp_path)
    run("keygen", "key")
    run("keygen", "other")
    (tmp_path / "content").write_bytes(CONTENT)
    return tmp_path


def run(*arguments: str) -> str:
    """Standard output of a command that must succeed."""
    result = CliRunner().invoke(catalogue_group, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line of a command that must fail, through the program's own entry."""
    capsys.readouterr()
    code = cli.run(["catalogue", *arguments])
    captured = capsys.readouterr()
    assert code
    assert captured.out == ""
    assert captured.err.startswith("cacheserver: error: ")
    assert captured.err.count("\n") == 1
    return code, captured.err


def document(path: str = "c.json") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(path).read_bytes())
    return loaded


def test_private_key_is_for_the_owner_alone_and_the_public_one_is_printed(folder: Path) -> None:
    public = run("keygen", "fresh").strip()
    assert (folder / "fresh.pub").read_text().strip() == public
    assert (folder / "fresh").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" in (folder / "fresh").read_bytes()
    assert public != (folder / "key.pub").read_text().strip()


async def test_added_and_signed_content_is_what_the_anchor_says(folder: Path) -> None:
    run("add", "c.json", "--path", "/a//%62.cab?x=1", "--from-file", "content")
    run("add", "c.json", "--id", GUID.upper(), "--from-file", "content")
    assert run("sign", "c.json", "--key", "key").startswith("signed: c.json: 2 entries, issued 20")
    trusted = (folder / "key.pub").read_text().strip()
    assert run("verify", "c.json", "--trusted", trusted) == run("verify", "c.json", "--trusted", "key.pub")
    anchor = CatalogueAnchor(files=["c.json"], trusted_keys=[trusted])
    pieces = [CONTENT[at : at + MIB] for at in range(0, len(CONTENT), MIB)]
    manifest = Manifest(len(CONTENT), MIB, b"".join(hashlib.sha256(piece).digest() for piece in pieces))
    for url in (
        "http://a.example/a//b.cab?x=1",
        f"http://dl.delivery.mp.microsoft.com/filestreamingservice/files/{GUID}?P1=1",
    ):
        (claim,) = await anchor.ask(admitted(url, own={"hosts": ["a.example"]}), Fields(), secure=False)
        assert claim.length_bytes == len(CONTENT)
        assert claim.hash_of_hashes == manifest.hash_of_hashes
        assert claim.manifest_digest == manifest.digest
        assert claim.sha256 == hashlib.sha256(CONTENT).digest()
        assert claim.sha1 == hashlib.sha1(CONTENT, usedforsecurity=False).digest()


def test_adding_again_replaces_the_entry_and_drops_the_signature(folder: Path) -> None:
    for host in ("a.example", "b.example"):
        run("add", "c.json", "--path", "/a", "--host", host, "--from-file", "content")
    run("sign", "c.json", "--key", "key")
    (folder / "content").write_bytes(b"new")
    said = run("add", "c.json", "--path", "/a", "--host", "A.example", "--from-file", "content")
    assert "must be signed" in said
    assert "signature" not in document()
    assert [(entry["host"], entry["length"]) for entry in document()["entries"]] == [
        ("b.example", len(CONTENT)),
        ("a.example", 3),
    ]


def test_empty_content_has_digests_but_no_manifest(folder: Path) -> None:
    (folder / "content").write_bytes(b"")
    run("add", "c.json", "--path", "/empty", "--from-file", "content")
    (entry,) = document()["entries"]
    assert entry["length"] == 0
    assert set(entry) == {"path", "length", "sha256", "sha1"}


def test_list_shows_each_entry_on_its_line(folder: Path) -> None:
    run("add", "c.json", "--path", "/a", "--host", "a.example", "--from-file", "content")
    run("add", "c.json", "--id", GUID, "--from-file", "content")
    first, second = run("list", "c.json").splitlines()
    assert first.startswith(f"a.example/a {len(CONTENT)} hash_of_hashes=")
    assert second.startswith(f"{GUID} {len(CONTENT)} ")
    assert f"sha256={hashlib.sha256(CONTENT).hexdigest()}" in second


def test_permissions_of_the_file_stay_and_no_other_file_is_left(folder: Path) -> None:
    run("add", "c.json", "--path", "/a", "--from-file", "content")
    (folder / "c.json").chmod(0o640)
    run("sign", "c.json", "--key", "key")
    assert (folder / "c.json").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in folder.iterdir()) == [
        "c.json",
        "content",
        "key",
        "key.pub",
        "other",
        "other.pub",
    ]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (b'"length": 4', "does not fit"),
        (b'"length": 3, "length": 3', "twice"),
        (b'"length": "3"', "expected"),
    ],
)
def test_changed_file_does_not_verify(
    change: bytes, part: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "content").write_bytes(b"abc")
    run("add", "c.json", "--path", "/a", "--from-file", "content")
    run("sign", "c.json", "--key", "key")
    right = (folder / "c.json").read_bytes()
    (folder / "c.json").write_bytes(right.replace(b'"length": 3', change))
    code, line = refused(capsys, "verify", "c.json", "--trusted", "key.pub")
    assert code == 1
    assert line.startswith("cacheserver: error: c.json: catalogue")
    assert part in line.lower()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["verify", "signed.json", "--trusted", "other.pub"], 1, "not a trusted key"),
        (["verify", "unsigned.json", "--trusted", "key.pub"], 1, "not signed"),
        (["verify", "unsigned.json"], 2, "--trusted"),
        (["verify", "signed.json", "--trusted", "nowhere"], 2, "neither a key nor a readable file"),
        (["verify", "signed.json", "--trusted", "content"], 2, "not an Ed25519 public key"),
        (["verify", "missing.json", "--trusted", "key.pub"], 1, "missing.json"),
        (["sign", "missing.json", "--key", "key"], 1, "missing.json"),
        (["sign", "content", "--key", "key"], 1, "content: catalogue is not"),
        (["sign", "unsigned.json", "--key", "key.pub"], 1, "private key"),
        (["sign", "unsigned.json", "--key", "nowhere"], 1, "nowhere"),
        (["sign", "unsigned.json"], 2, "--key"),
        (["keygen", "key"], 2, "key: is there already"),
        (["keygen", "nowhere/key"], 1, "nowhere/key"),
        (["add", "c.json", "--from-file", "content"], 2, "either --path or --id"),
        (["add", "c.json", "--path", "/a", "--id", GUID, "--from-file", "content"], 2, "either --path or --id"),
        (["add", "c.json", "--id", GUID, "--host", "a", "--from-file", "content"], 2, "--host needs --path"),
        (["add", "c.json", "--path", "/a/../b", "--from-file", "content"], 2, "dot segment"),
        (["add", "c.json", "--path", "a", "--from-file", "content"], 2, "--path"),
        (["add", "c.json", "--path", "/a", "--host", "a b", "--from-file", "content"], 1, "host"),
        (["add", "c.json", "--id", "7", "--from-file", "content"], 1, "GUID"),
        (["add", "c.json", "--path", "/a", "--from-file", "nowhere"], 1, "nowhere"),
        (["add", "c.json", "--path", "/a"], 2, "--from-file"),
        (["add", "content", "--path", "/a", "--from-file", "content"], 1, "content: catalogue is not"),
        (["list", "missing.json"], 1, "missing.json"),
        (["list", "key"], 1, "key: catalogue is not JSON"),
        (["nonsense"], 2, "nonsense"),
        (["list", "a\nb\x1b[31m"], 1, ""),
    ],
)
def test_every_mistake_is_one_line_and_writes_nothing(
    arguments: list[str], code: int, part: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("unsigned.json", "signed.json"):
        run("add", name, "--path", "/a", "--from-file", "content")
    run("sign", "signed.json", "--key", "key")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    got, line = refused(capsys, *arguments)
    assert got == code
    assert part in line
    assert line.rstrip("\n").isprintable()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_every_command_and_flag_is_in_the_reference() -> None:
    page = reference.render_reference(cli.cli)
    assert sorted(catalogue_group.commands) == ["add", "keygen", "list", "sign", "status", "verify"]
    for name, command in catalogue_group.commands.items():
        assert re.search(rf"^### cacheserver catalogue {name}( |$)", page, re.MULTILINE)
        for param in command.params:
            assert all(f"`{flag}`" in page for flag in param.opts if flag.startswith("--"))


def test_key_text_is_the_raw_key_in_base64(folder: Path) -> None:
    text = (folder / "key.pub").read_text().strip()
    assert len(text) == 44
    run("add", "c.json", "--path", "/a", "--from-file", "content")
    run("sign", "c.json", "--key", "key")
    assert document()["signature"]["key"] == text
    assert to_base64(bytes(32)) != text


def test_a_catalogue_that_another_command_changes_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(changing, "LOCK_S", 0.0)
    run("add", "c.json", "--path", "/a", "--from-file", "content")
    before = (folder / "c.json").read_bytes()
    with folder_held(str(folder), within_s=1.0):
        for arguments in (
            ("add", "c.json", "--path", "/b", "--from-file", "content"),
            ("sign", "c.json", "--key", "key"),
        ):
            code, line = refused(capsys, *arguments)
            assert (code, "another command is changing it" in line) == (2, True)
    assert (folder / "c.json").read_bytes() == before


def test_status_tells_which_catalogues_the_node_takes_and_older_ones_can_be_allowed(folder: Path) -> None:
    run("add", "c.json", "--path", "/a", "--from-file", "content")
    run("sign", "c.json", "--key", "key")
    (folder / "cache").mkdir()
    trusted = (folder / "key.pub").read_text().strip()
    (folder / "node.toml").write_text(
        f"[[store.volumes]]\npath = '{folder}/cache'\nmax_size = '1GiB'\n"
        f"[trust]\ncatalogues = ['{folder}/c.json']\ncatalogue_keys = ['{trusted}']\n"
    )
    config = ("status", "--config", "node.toml")
    assert "1 entry" in run(*config)
    assert run(*config).endswith(": ok\n")
    Issued(str(folder / "cache")).note(f"{folder}/c.json", "2999-01-01T00:00:00Z")
    result = CliRunner().invoke(catalogue_group, config)
    assert (result.exit_code, "refused: it was issued at" in result.stdout) == (1, True)
    assert run(*config, "--allow-older").endswith(": ok\n")
    assert run(*config).endswith(": ok\n")


def test_verify_refuses_an_expired_catalogue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("add", "c.json", "--path", "/a", "--from-file", "content")
    run("sign", "c.json", "--key", "key", "--expires", "2999-01-01T00:00:00Z")
    run("verify", "c.json", "--trusted", "key.pub")
    loaded = replace(read_document("c.json"), issued="2020-01-01T00:00:00Z", expires="2021-01-01T00:00:00Z")
    (folder / "c.json").write_bytes(render_catalogue(sign(loaded, (folder / "key").read_bytes())))
    _code, line = refused(capsys, "verify", "c.json", "--trusted", "key.pub")
    assert "it has expired at 2021-01-01T00:00:00Z" in line
