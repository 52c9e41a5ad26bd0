"""What is served while files are replaced under it: good ones are taken, bad ones are refused and told once."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.tls.current import CurrentCertificate
from cacheserver.tls.options import TlsOptions
from tests.support.certificates import NAME, Issued, Pki, key_pem, replace, write_pair

PKI = Pki()
DAY_S = 86_400.0


class HandClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def wall_s(self) -> float:
        """Unix time."""
        return self.now_s

    def monotonic_s(self) -> float:
        """The same."""
        return self.now_s


class Scene:
    """A certificate that is served, its files, and what was logged and shown."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "cacheserver")
        self.folder = folder
        self.clock = HandClock()
        self.shown: list[tuple[str, float]] = []
        self.options = TlsOptions(
            certificate=str(folder / "node.pem"), key=str(folder / "node.key"), names=(NAME,), check_s=0.01
        )
        self.current = CurrentCertificate(clock=self.clock, show=lambda name, end_s: self.shown.append((name, end_s)))
        self._caplog = caplog

    def write(self, issued: Issued) -> Issued:
        """Put a pair in place, the key first."""
        replace(self.folder / "node.key", key_pem(issued.key))
        replace(self.folder / "node.pem", issued.chain_pem)
        return issued

    def open(self, issued: Issued) -> None:
        """Start with this pair."""
        self.write(issued)
        self.current.open(self.options)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Facts of what was logged under this name so far."""
        return [record.__dict__["facts"] for record in self._caplog.records if record.__dict__.get("event") == name]

    async def looks(self, times: int = 4) -> None:
        """Look that often."""
        for _ in range(times):
            await self.current.check()

    def serves(self, issued: Issued) -> bool:
        """Whether this is what is served."""
        status = self.current.status()
        assert status is not None
        return str(status["not_after"]) == issued.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Scene:
    return Scene(tmp_path, caplog)


OLD = PKI.issue(days=(-1, 20))
NEW = PKI.issue(days=(-1, 30))


async def test_a_replaced_pair_is_taken_at_the_next_look_and_shown(scene: Scene) -> None:
    scene.open(OLD)
    scene.write(NEW)
    await scene.looks(1)
    assert scene.serves(NEW)
    assert len(scene.events("certificate_loaded")) == 2
    assert scene.shown[-1] == ("node.pem", NEW.certificate.not_valid_after_utc.timestamp())
    await scene.looks()
    assert len(scene.events("certificate_loaded")) == 2


async def test_swapped_symbolic_links_are_noticed(scene: Scene) -> None:
    for number, issued in enumerate((OLD, NEW)):
        (scene.folder / f"v{number}").mkdir()
        write_pair(scene.folder / f"v{number}", issued.chain_pem, key_pem(issued.key))
    (scene.folder / "data").symlink_to("v0")
    for name in ("node.pem", "node.key"):
        (scene.folder / name).symlink_to(f"data/{name}")
    scene.current.open(scene.options)
    (scene.folder / "data.new").symlink_to("v1")
    (scene.folder / "data.new").rename(scene.folder / "data")
    await scene.looks(1)
    assert scene.serves(NEW)


BAD = [
    (PKI.issue(days=(-10, -1)), "expired"),
    (PKI.issue(days=(1, 10)), "not valid before"),
    (PKI.issue("other.example.test"), "is not for"),
]


@pytest.mark.parametrize(("bad", "words"), BAD)
async def test_a_worse_pair_is_refused_and_told_once(bad: Issued, words: str, scene: Scene) -> None:
    scene.open(OLD)
    scene.write(bad)
    await scene.looks(6)
    assert scene.serves(OLD)
    (told,) = scene.events("certificate_refused")
    assert words in told["reason"]
    status = scene.current.status()
    assert status is not None
    assert words in status["refused"]


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_at_the_start_it_is_served_with_a_warning(bad: Issued, words: str, scene: Scene) -> None:
    scene.open(bad)
    assert scene.serves(bad)
    (warned,) = scene.events("certificate_warning")
    assert words in warned["reason"]


async def test_distinct_troubles_are_told_apart_and_the_end_of_all_is_the_new_pair(scene: Scene) -> None:
    scene.open(OLD)
    (scene.folder / "node.key").unlink()
    await scene.looks()
    replace(scene.folder / "node.pem", NEW.chain_pem[:-300])
    replace(scene.folder / "node.key", key_pem(NEW.key))
    await scene.looks()
    reasons = [facts["reason"] for facts in scene.events("certificate_refused")]
    assert ["No such file" in reasons[0], "half written" in reasons[1]] == [True, True]
    assert len(reasons) == 2
    assert scene.serves(OLD)
    scene.write(NEW)
    await scene.looks(1)
    assert scene.serves(NEW)
    status = scene.current.status()
    assert status is not None
    assert status["refused"] is None


async def test_two_files_that_are_replaced_one_after_the_other_are_no_trouble(scene: Scene) -> None:
    scene.open(OLD)
    replace(scene.folder / "node.pem", NEW.chain_pem)
    await scene.looks(1)
    replace(scene.folder / "node.key", key_pem(NEW.key))
    await scene.looks(2)
    assert scene.serves(NEW)
    assert scene.events("certificate_refused") == []


async def test_the_old_pair_put_back_ends_the_trouble(scene: Scene) -> None:
    scene.open(OLD)
    aside = scene.folder / "aside"
    (scene.folder / "node.key").rename(aside)
    await scene.looks()
    aside.rename(scene.folder / "node.key")
    await scene.looks(1)
    assert scene.serves(OLD)
    status = scene.current.status()
    assert status is not None
    assert status["refused"] is None


async def test_what_expires_while_it_is_served_is_told_once_and_then_anything_is_better(scene: Scene) -> None:
    scene.open(OLD)
    await scene.looks()
    assert scene.events("certificate_warning") == []
    scene.clock.now_s += 25 * DAY_S
    await scene.looks()
    (warned,) = scene.events("certificate_warning")
    assert "expired" in warned["reason"]
    later = scene.write(PKI.issue(days=(-1, 22)))  # out of time as well
    await scene.looks(1)
    assert scene.serves(later)


async def test_a_certificate_for_tomorrow_is_taken_tomorrow(scene: Scene) -> None:
    scene.open(OLD)
    early = scene.write(PKI.issue(days=(1, 9)))
    await scene.looks()
    assert scene.serves(OLD)
    scene.clock.now_s += 2 * DAY_S
    await scene.looks(1)
    assert scene.serves(early)


def test_a_reload_refuses_at_once_and_keeps_what_is_served(scene: Scene) -> None:
    scene.open(OLD)
    (scene.folder / "node.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 640"):
        scene.current.prepare(scene.options)
    assert scene.serves(OLD)
    assert len(scene.events("certificate_refused")) == 1


def test_a_reload_without_a_change_reads_nothing_and_takes_the_same_pair(scene: Scene) -> None:
    scene.open(PKI.issue(days=(-10, -1)))
    scene.current.take(scene.options, scene.current.prepare(scene.options))
    assert len(scene.events("certificate_loaded")) == 1


async def test_without_tls_there_is_nothing_to_look_at(scene: Scene) -> None:
    await scene.looks()
    assert scene.current.status() is None
    assert scene.current.prepare(scene.options) is None
    assert scene.shown == []


async def test_a_pair_that_cannot_be_used_at_the_start_is_taken_once_it_can(scene: Scene) -> None:
    scene.write(OLD)
    replace(scene.folder / "node.key", b"half a renewal")
    context = scene.current.open(scene.options)
    await scene.looks()
    (told,) = scene.events("certificate_refused")
    assert scene.current.status() == {"file": scene.options.certificate, "warnings": [], "refused": told["reason"]}
    assert context.sni_callback is None
    scene.write(OLD)
    await scene.looks(1)
    assert scene.serves(OLD)
    assert context.sni_callback is not None
