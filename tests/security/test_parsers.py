"""No parser of anything from outside raises what it does not announce, whatever it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cacheserver.core.cache.answer import Asked, check_answer
from cacheserver.core.errors import CacheserverError
from cacheserver.core.eviction.s3fifo import S3Fifo
from cacheserver.core.http.cache_control import parse_cache_control
from cacheserver.core.http.conditional import evaluate
from cacheserver.core.http.field_rules import list_members
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.http_date import parse_http_date
from cacheserver.core.http.ranges import first_demand, parse_content_range, parse_range, select
from cacheserver.core.http.validators import Validators
from cacheserver.core.integrity.content_catalogue import parse_catalogue
from cacheserver.core.integrity.manifest import parse_manifest
from cacheserver.core.request.addresses import vet_address
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.settings.load import Flags, load_settings
from cacheserver.settings.shipped import load_shipped_services
from cacheserver.store.catalogue.record import CatalogueRecord
from cacheserver.store.object import layout
from cacheserver.store.object.file import ObjectFile
from cacheserver.upstream.resolver import VettedResolver
from tests.security.figures import Figure, Row, Scene
from tests.support.stored import representation

_PHF = (
    b'{"MajorVersion":1,"MinorVersion":0,"HashOfHashes":"bLR+YkW147Gf10YSrQ6lgW3AC9E1aDesK3TaSr0DHJA=",'
    b'"ContentLength":244530,"PieceSize":1048576,"Pieces":["J/rmYNjGCeAgcDu0Y7ZgHmKBHcddsZl1vLfWjZWbUn0="]}'
)
_CATALOGUE = b'{"version":1,"issued":"2026-01-01T00:00:00Z","entries":[]}'
_TOML = (
    b'allow = ["a.example"]\n[server]\nlisten = ["127.0.0.1:80"]\n[services.x]\nhosts = ["*.b.example"]\nport = 81\n'
)
_RECORD = CatalogueRecord(10, 5, True, "service").encode()
_TEXT = st.one_of(st.text(max_size=80), st.text("bytes=0123456789-,*/ \t\"'%;:.?&#[]@\\\x00\r\n", max_size=120))


@dataclass(frozen=True, slots=True)
class Parser:
    """A parser, what it is given, and what it may raise."""

    name: str
    inputs: st.SearchStrategy[Any]
    call: Callable[[Any], object]
    raises: tuple[type[Exception], ...] = ()


def spoiled(seed: bytes) -> st.SearchStrategy[bytes]:
    """``seed`` with some of its bytes replaced, cut out or doubled, or bytes that have nothing to do with it."""

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = seed
        for at, gone, put in edits:
            at %= len(data) + 1
            data = data[:at] + put + data[at + gone :]
        return data

    edit = st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8))
    return st.one_of(st.lists(edit, max_size=4).map(apply), st.binary(max_size=200))


def parsers(room: Path) -> list[Parser]:
    """All of them; files are made in ``room``."""
    return [*_of_requests(), *_of_answers(), *_of_documents(room), *_of_the_store(room)]


def _of_requests() -> list[Parser]:
    allowlist = AllowList(load_shipped_services())

    def target(drawn: tuple[str, str, bool]) -> object:
        return parse_target(drawn[0], (drawn[1],), tls=drawn[2], allowlist=allowlist)

    def ranges(text: str) -> object:
        field = parse_range(text)
        return select(field, 1000), first_demand(field)

    def conditions(drawn: tuple[str, str]) -> object:
        fields = Fields([(drawn[0], drawn[1])])
        return evaluate(fields, Validators('"a"', "Fri, 20 Nov 2026 12:00:00 GMT"), method="GET", now_s=1.8e9)

    names = st.sampled_from(["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"])
    hosts = st.one_of(_TEXT, st.just("dl.delivery.mp.microsoft.com"))
    return [
        Parser("Range", _TEXT, ranges),
        Parser(
            "target", st.tuples(_TEXT.map(lambda text: "/" + text), hosts, st.booleans()), target, (CacheserverError,)
        ),
        Parser("conditions", st.tuples(names, _TEXT), conditions),
        Parser("lists", _TEXT, list_members),
    ]


def _of_answers() -> list[Parser]:
    def answer(lines: list[tuple[str, str]]) -> object:
        return check_answer(
            asked=Asked(0, 100),
            status=206,
            fields=Fields(lines),
            expected=None,
            accepted_codings=frozenset(),
            immutable=True,
        )

    names = st.sampled_from(["Content-Range", "Content-Length", "Content-Encoding", "ETag", "Last-Modified", "Date"])
    values = st.one_of(_TEXT, st.sampled_from(["bytes 0-99/100", "100", '"x"', "bytes 0-99/*"]))
    return [
        Parser("answer head", st.lists(st.tuples(names, values), max_size=6), answer, (CacheserverError,)),
        Parser("Content-Range", _TEXT, parse_content_range),
        Parser("Cache-Control", _TEXT, parse_cache_control),
        Parser("dates", _TEXT, lambda text: parse_http_date(text, now_s=1.8e9)),
        Parser("DNS answers", st.lists(_TEXT, max_size=5), _resolved, (CacheserverError,)),
        Parser("addresses", st.one_of(_TEXT, st.ip_addresses().map(str)), vet_address),
    ]


def _resolved(addresses: list[str]) -> object:
    async def lookup(_host: str) -> list[str]:
        return addresses

    async def ask() -> object:
        resolver = VettedResolver(connect_to={}, allowed_for=lambda _host: (), lookup=lookup)
        found = await resolver.resolve("a.example", 80)
        assert all(vet_address(each["host"]) for each in found)
        return found

    return asyncio.run(ask())


def _of_documents(room: Path) -> list[Parser]:
    file = room / "c.toml"

    def toml(data: bytes) -> object:
        file.write_bytes(data)
        return load_settings(str(file), Flags())

    return [
        Parser("piece-hash file", spoiled(_PHF), parse_manifest, (CacheserverError,)),
        Parser("signed catalogue", spoiled(_CATALOGUE), parse_catalogue, (CacheserverError,)),
        Parser("settings", spoiled(_TOML), toml, (CacheserverError,)),
    ]


def _of_the_store(room: Path) -> list[Parser]:
    place = room / ("0" * 32)
    made = ObjectFile.create(str(place), representation("a", 3000))
    made.close()
    whole = place.read_bytes()
    footer = whole.rindex(layout.encode_tail(made.layout))

    def open_object(data: bytes) -> object:
        place.write_bytes(data)
        opened = ObjectFile.open(str(place))
        if opened is not None:
            opened.close()
        return opened

    return [
        Parser("object footer", spoiled(whole), open_object, (CacheserverError,)),
        Parser("footer's tail", spoiled(whole[footer:]), layout.decode_tail, (CacheserverError,)),
        Parser("catalogue row", spoiled(_RECORD), CatalogueRecord.decode, (CacheserverError,)),
        Parser(
            "recency", st.binary(max_size=400), lambda data: S3Fifo(capacity_bytes=1000).restore(data), (ValueError,)
        ),
    ]


def crash_of(parser: Parser, examples: int) -> str | None:
    """The first thing that a parser raised without announcing it, None where there was none."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(parser.inputs)
    def attempt(drawn: Any) -> None:
        try:
            parser.call(drawn)
        except parser.raises:
            pass

    try:
        attempt()
    except Exception as error:
        return f"{parser.name}: {error!r} ({'; '.join(getattr(error, '__notes__', ()))[:200]})"
    return None


async def measure(scene: Scene) -> Figure:
    """Every parser with drawn inputs, in a thread: some of them run a loop of their own."""
    found = parsers(scene.room("files"))
    examples = scene.size(5000, 120)
    crashes = [await asyncio.to_thread(crash_of, parser, examples) for parser in found]
    faults = [crash for crash in crashes if crash is not None]
    return Figure(f"{len(found)} parsers x {examples} inputs: {len(faults)} crashes", faults)


ROW = Row("parsers fuzzed: Range, target, PHF, TOML, catalogues, footer, DNS answers", "0 crashes", measure)


@pytest.mark.timeout(180)
async def test_no_parser_raises_what_it_does_not_announce(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()
