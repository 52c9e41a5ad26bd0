"""Nothing that lies in the cache directory, or that a client names, makes the node leave it or run anything."""

from __future__ import annotations

import os
import pickle
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.security.figures import Figure, Row, Scene
from tests.security.watch import FILES, PROCESSES, Watch
from tests.support.client import RawClient
from tests.support.content import Content, blob
from tests.support.flow import eventually
from tests.support.ground import DO_HOST, HOST
from tests.support.node import Node, running_node
from tests.support.origin import Origin

_ROOT = Path(__file__).resolve().parents[2]
_OBJECTS = 12
_SECRET = b"root:x:0:0:secret"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TRAVERSALS = (
    *(
        "/../../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/a/../../etc/passwd",
        "/..;/etc/x",
    ),
    *("/....//etc/passwd", "/%2e%2e%2fetc%2fpasswd", "/..%5c..%5cetc", "/.%2e/x", "/%252e%252e/x", "/..%00/x", "/%00"),
    *("//etc/passwd", "/etc/passwd", "/proc/self/environ", "/a%0a../x", "/x?../../etc/passwd", "/~root/x", "/CON"),
    *("/%c0%ae%c0%ae/x", "/%uff0e%uff0e/x", "/..", "/.", "/./x", "/x/..", "/a:b", "/*", "/$(id)", "/`id`"),
    *("/objects/00/" + "0" * 32, "/" + "a" * 4000),
)


class Bomb:
    """Makes the file it was told when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def object_files(cache: Path) -> list[Path]:
    """Object files, in a fixed order."""
    return sorted(file for file in (cache / "objects").rglob("*") if file.is_file() or file.is_symlink())


def plant_files(cache: Path, secret: Path) -> None:
    """Links, a pipe, a directory and hard links in place of objects, and strange names beside them."""
    files = object_files(cache)
    for number, file in enumerate(files[:6]):
        file.unlink()
        (
            lambda place: place.symlink_to(secret),
            lambda place: place.symlink_to("/dev/zero"),
            lambda place: place.hardlink_to(secret),
            lambda place: os.mkfifo(place),
            lambda place: place.mkdir(),
            lambda place: place.symlink_to(secret.parent),
        )[number](file)
    fan = cache / "objects" / "00"
    (fan / ("0" * 32 + ".new")).symlink_to(secret)
    (fan / "..evil").write_bytes(b"x")
    (fan / "\u202e\x1b[2J").write_bytes(b"x")
    for name in ("recency", "scrub", "clean", "node-id"):
        (cache / name).unlink(missing_ok=True)
    (cache / "recency").write_bytes(pickle.dumps(Bomb(secret.parent / "run-by-recency")))
    (cache / "recency.new").symlink_to(secret)
    (cache / "scrub").symlink_to(secret)


def plant_rows(cache: Path, folder: Path) -> int:
    """Pickles and file names in every column of the catalogue that could take them; how many rows."""
    bomb = pickle.dumps(Bomb(folder / "run-by-catalogue"))
    (cache / "catalogue" / "bomb.val").write_bytes(bomb)
    rows: list[dict[str, object]] = [
        {"key": "b" * 32, "mode": 4, "value": bomb},
        {"key": "c" * 32, "mode": 4, "value": None, "filename": "bomb.val"},
        {"key": "d" * 32, "mode": 2, "value": None, "filename": "../../secret"},
        {"key": "e" * 32, "mode": 3, "value": None, "filename": str(folder / "secret")},
        {"key": bomb, "raw": 0, "mode": 1, "value": bomb},
        {"key": "../../../secret", "mode": 1, "value": bomb},
    ]
    with closing(sqlite3.connect(cache / "catalogue" / "cache.db", isolation_level=None)) as connection:
        names = [row[0] for row in connection.execute("SELECT key FROM Cache WHERE typeof(key) = 'text'")]
        connection.execute("UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (bomb, names[-1]))
        for row in rows:
            whole = {"raw": 1, "tag": 1000} | row
            marks = ", ".join("?" * len(whole))
            connection.execute(f"INSERT INTO Cache ({', '.join(whole)}) VALUES ({marks})", tuple(whole.values()))
    return len(rows) + 1


def outside(watch: Watch, cache: Path, since: int) -> list[str]:
    """What the node touched that is neither in its cache nor a module of its own."""
    readable = (
        str(cache),
        sys.prefix,
        sys.base_prefix,
        str(_ROOT),
        "/proc/self",
        "/proc/stat",  # the process metrics read when the machine was started
        "/usr/lib",
        "/etc/ssl",
        "/etc/mime.types",
    )
    faults = []
    for path, flags in ((str(note[0]), note[1]) for note in watch.notes("open", since=since)):
        if path.isdigit() or path.startswith(str(cache)):
            continue  # a descriptor, or at home; a link would have been refused by O_NOFOLLOW
        if flags & os.O_PATH:
            continue  # a step of a way, which reads nothing
        if path.endswith("/cacheserver.toml") and not flags & _WRITES:
            continue
        if path == "/dev/null":
            continue  # where read-ahead sends what it reads
        if flags & _WRITES or not path.startswith(readable):
            faults.append(f"opened {path} with {flags:o}")
    for event in FILES[1:]:
        names = [str(name) for note in watch.notes(event, since=since) for name in note]
        faults += [f"{event} {name}" for name in names if name.startswith("/") and not name.startswith(str(cache))]
    faults += [f"ran {note}" for note in watch.notes(*PROCESSES, since=since)]
    return faults


async def asked_all(node: Node, bodies: dict[str, bytes]) -> list[str]:
    """Ask for every object and every traversal; what was not right."""
    faults = []
    for path, body in bodies.items():
        answer = await node.get(path, host=DO_HOST)
        if (answer.status, answer.body) != (200, body):
            faults.append(f"{path}: {answer.status}, {answer.body[:40]!r}")
    for target in _TRAVERSALS:
        for host in (HOST, DO_HOST):
            answer = await node.get(target, host=host)
            if answer.status not in (400, 404, 403) or _SECRET in answer.body:
                faults.append(f"{target}: {answer.status}")
    return faults


async def measure(scene: Scene) -> Figure:
    """Fill a cache, spoil it while the node is down, and use it again under watch."""
    folder, bodies = scene.room("outside"), {f"/o/{n}": blob(n, 3000) for n in range(_OBJECTS)}
    secret = folder / "secret"
    secret.write_bytes(_SECRET)
    watch = Watch(scene.directory / "watch", (*FILES, *PROCESSES))
    cache = scene.directory / "cache"
    async with Origin() as origin:
        for path, body in bodies.items():
            origin.add(path, Content(body))
        places = {HOST: origin.address, DO_HOST: origin.address}
        async with running_node(
            scene.room("node"), allow=(HOST,), connect_to=places, cache_dir=cache, env=watch.env()
        ) as node:
            faults = await asked_all(node, bodies)
            assert await node.stop() == 0
            planted = plant_rows(cache, folder)
            plant_files(cache, secret)
            (cache / "clean").unlink(missing_ok=True)
            mark = watch.mark()
            await node.start()
            faults += await asked_all(node, bodies)
            await eventually(lambda: scrubbed(node))
        faults += outside(watch, cache, mark_of_listening(watch, mark))
    if secret.read_bytes() != _SECRET or sorted(path.name for path in folder.iterdir()) != ["secret"]:
        faults.append(f"outside the cache: {[path.name for path in folder.iterdir()]}")
    opens = len(watch.notes("open"))
    text = (
        f"{2 * len(_TRAVERSALS)} paths, 9 planted files, {planted} rows: {opens} opens, 0 outside, 0 links, 0 pickles"
    )
    return Figure(text if not faults else text.replace(" 0 ", " not 0 "), faults)


async def scrubbed(node: Node) -> bool:
    """Whether a whole pass of the scrubber has gone over everything that was planted."""
    body = b"{}"
    lines = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    async with RawClient(*node.admin) as client:
        await client.send(client.head("POST", "/api/v1/scrub", lines) + body)
        return (await client.receive()).status == 202


def mark_of_listening(watch: Watch, mark: int) -> int:
    """Where the second run's own work begins: its imports are before the first touch of the cache."""
    lines = watch.file.read_text().splitlines()
    return next(number for number in range(mark, len(lines)) if "cache/" in lines[number])


ROW = Row(
    "traversal, links and planted files, pickles in the catalogue",
    "every open inside the cache, no link followed, nothing executed",
    measure,
)


@pytest.mark.timeout(120)
async def test_nothing_planted_leads_out_of_the_cache_or_runs(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
