"""Rules that a type cannot say: sizes, addresses, and how settings must fit together.

Owns: one generator of problems, the first of which refuses the configuration. Reads nothing but the settings, except
that a CA file named in them must exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Final

from cacheserver.core.errors import CatalogueError
from cacheserver.core.request.addresses import Network, parse_network
from cacheserver.core.request.bounded_patterns import check_bounded
from cacheserver.core.request.subnets import MAX_SUBNETS, OTHER_SUBNET
from cacheserver.core.units import Size, format_size, is_ip, is_loopback, parse_listen
from cacheserver.metrics.options import SubnetOptions
from cacheserver.settings.file import Problem
from cacheserver.settings.schema import Settings
from cacheserver.settings.toml_lines import Path
from cacheserver.store.options import StoreOptions, VolumeOptions
from cacheserver.tls.names import certificate_name
from cacheserver.tls.options import TlsOptions
from cacheserver.trust.edge_cdp import LONGEST_PATH
from cacheserver.trust.https_json import base_of, check_base_url
from cacheserver.trust.options import TrustOptions
from cacheserver.trust.signing import parse_public_key
from cacheserver.web.options import AdminOptions, ServerOptions, SharedNetwork

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_SUBNET_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
_REQUEST_PATH: Final = re.compile(r"/[!\"$-~]*")  # visible ASCII, no fragment
MIN_TOKEN_LENGTH: Final = 16


def problems(settings: Settings) -> Iterator[Problem]:
    """Every rule that ``settings`` breaks, in a fixed order."""
    yield from _listeners(settings.server, settings.admin)
    yield from _size(("server", "max_head"), settings.server.max_head, 1 * _KIB, 1 * _MIB)
    yield from _size(("server", "turn"), settings.server.turn, 16 * _KIB, 64 * _MIB)
    yield from _size(("fill", "spool_bytes"), settings.fill.spool_bytes, 64 * _KIB, 1 << 40)
    yield from _store(settings.store)
    yield from _size(("scrub", "max_rate"), settings.scrub.max_rate, 64 * _KIB, 1 << 40)
    yield from _size(("scrub", "busy_rate"), settings.scrub.busy_rate, 0, 1 << 50)
    for host, address in settings.upstream.connect_to.items():
        yield from _connect_to(host, address)
    yield from _file(("upstream", "ca_file"), settings.upstream.ca_file)
    yield from _trust(settings.trust)
    yield from _tls(settings.tls, listens=bool(settings.server.listen_tls))
    yield from _path(("log", "access_file"), settings.log.access_file)
    yield from _subnets(settings.subnets)
    yield from _shared_networks(settings.fairness.shared)
    for name, table in settings.services.items():
        yield from _no_wildcard(("services", name, "hosts"), table.get("hosts"))
    yield from _no_wildcard(("allow",), list(settings.allow))


def _tls(tls: TlsOptions, *, listens: bool) -> Iterator[Problem]:
    for name in ("certificate", "key"):
        if listens and not getattr(tls, name):
            yield Problem(("tls", name), "is needed for server.listen_tls")
        yield from _path(("tls", name), getattr(tls, name))
    for position, text in enumerate(tls.names):
        yield from _parsed(("tls", "names", position), certificate_name, text)


def _listeners(server: ServerOptions, admin: AdminOptions) -> Iterator[Problem]:
    if not server.listen:
        yield Problem(("server", "listen"), "needs at least one ADDR:PORT")
    taken: set[tuple[str, int]] = set()
    for name in ("listen", "listen_tls"):
        for position, text in enumerate(getattr(server, name)):
            yield from _listen(("server", name, position), text, taken)
    if admin.listen:
        yield from _listen(("admin", "listen"), admin.listen, taken)
    if admin.token:
        yield from _token(admin.token)
    elif admin.listen and not is_loopback(admin.listen.rpartition(":")[0].strip("[]")):
        yield Problem(("admin", "listen"), f"{admin.listen} is not loopback: set admin.token, or use 127.0.0.1")


def _listen(path: Path, text: str, taken: set[tuple[str, int]]) -> Iterator[Problem]:
    try:
        address = parse_listen(text)
    except ValueError as exc:
        yield Problem(path, str(exc))
        return
    if address in taken:
        yield Problem(path, f"{text} is listened on already")
    if address[1]:
        taken.add(address)


def _token(token: str) -> Iterator[Problem]:
    if len(token) < MIN_TOKEN_LENGTH:
        yield Problem(("admin", "token"), f"is shorter than {MIN_TOKEN_LENGTH} characters")
    if not token.isascii() or any(char <= " " or char == "\x7f" for char in token):
        text = "may hold visible ASCII characters only, no spaces; `openssl rand -hex 16` makes one"
        yield Problem(("admin", "token"), text)


def _store(store: StoreOptions) -> Iterator[Problem]:
    piece_bytes = store.piece_size.bytes
    yield from _size(("store", "piece_size"), store.piece_size, 64 * _KIB, 16 * _MIB)
    yield from _size(("store", "extent"), store.extent, piece_bytes, 1 << 50)
    if not piece_bytes or piece_bytes & (piece_bytes - 1):
        yield Problem(("store", "piece_size"), f"{store.piece_size} is not a power of two")
    elif store.extent.bytes % piece_bytes:
        yield Problem(("store", "extent"), f"{store.extent} is not a multiple of the piece size {store.piece_size}")
    seen: set[str] = set()
    for position, volume in enumerate(store.volumes):
        yield from _volume(("store", "volumes", position), volume, piece_bytes, seen)


def _volume(path: Path, volume: VolumeOptions, piece_bytes: int, seen: set[str]) -> Iterator[Problem]:
    found = list(_path((*path, "path"), volume.path))
    yield from found
    if found:
        return
    place = os.path.realpath(volume.path)
    if any(os.path.commonpath((place, other)) in (place, other) for other in seen):
        yield Problem((*path, "path"), f"{volume.path} is, holds or lies in another volume")
    seen.add(place)
    yield from _size((*path, "max_size"), volume.max_size, piece_bytes, 1 << 60)


def _connect_to(host: str, address: str) -> Iterator[Problem]:
    path: Path = ("upstream", "connect_to", host)
    name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdecimal() else (host, "", "")
    try:
        parse_listen(f"{name}:{port or 80}")
    except ValueError:
        yield Problem(path, "the key is not HOST or HOST:PORT")
        return
    try:
        target, target_port = parse_listen(address)
    except ValueError as exc:
        yield Problem(path, str(exc).replace("0.0.0.0:8080", "192.0.2.1:80").replace("[::]:8080", "[2001:db8::1]:80"))
        return
    if not is_ip(target) or target_port == 0:
        yield Problem(path, f"{address} is not an IP address with a port")


def _trust(trust: TrustOptions) -> Iterator[Problem]:
    if trust.catalogues and not trust.catalogue_keys:
        yield Problem(("trust", "catalogues"), "needs trust.catalogue_keys, the keys that may sign them")
    for position, text in enumerate(trust.catalogue_keys):
        yield from _parsed(("trust", "catalogue_keys", position), parse_public_key, text)
    yield from _file(("trust", "ca_file"), trust.ca_file)
    for name in ("content_policy_url", "edge_cdp_url"):
        yield from _parsed(("trust", name), check_base_url, getattr(trust, name))
    if trust.content_policy_keyvalue:
        yield from _parsed(("trust", "content_policy_keyvalue"), base_of, trust.content_policy_keyvalue)
    yield from _trust_template("content_policy_path", trust.content_policy_path, "{url}")
    yield from _trust_template("edge_cdp_path", trust.edge_cdp_path, "{product}", "{version}")
    try:
        check_bounded(trust.edge_cdp_pattern, LONGEST_PATH)
        missing = {"product", "version"} - re.compile(trust.edge_cdp_pattern).groupindex.keys()
    except (re.error, ValueError) as exc:
        yield Problem(("trust", "edge_cdp_pattern"), f"is not a bounded regular expression: {exc}")
        return
    yield from (Problem(("trust", "edge_cdp_pattern"), f"has no group {name}") for name in sorted(missing))


def _trust_template(name: str, text: str, *needed: str) -> Iterator[Problem]:
    if not _REQUEST_PATH.fullmatch(text):
        yield Problem(("trust", name), "is not a path and query that begins with /")
    yield from (Problem(("trust", name), f"does not hold {part}") for part in needed if part not in text)


def _subnets(groups: tuple[SubnetOptions, ...]) -> Iterator[Problem]:
    if len(groups) > MAX_SUBNETS:
        yield Problem(("subnets",), f"names {len(groups)} groups; at most {MAX_SUBNETS} are counted apart")
    names: set[str] = set()
    owners: dict[Network, str] = {}
    for position, group in enumerate(groups):
        if not _SUBNET_NAME.fullmatch(group.name) or group.name == OTHER_SUBNET:
            yield Problem(("subnets", position, "name"), "is not 1 to 40 letters, digits, '.', '_', '-', or is other")
        if group.name in names:
            yield Problem(("subnets", position, "name"), f"{group.name} is named twice; list all its networks once")
        names.add(group.name)
        if not group.networks:
            yield Problem(("subnets", position, "networks"), "is empty")
        yield from _networks(("subnets", position, "networks"), group.networks, group.name, owners)


def _shared_networks(entries: tuple[SharedNetwork, ...]) -> Iterator[Problem]:
    owners: dict[Network, str] = {}
    for position, entry in enumerate(entries):
        path: Path = ("fairness", "shared", position, "networks")
        if not entry.networks:
            yield Problem(path, "is empty")
        yield from _networks(path, entry.networks, f"entry {position + 1}", owners)


def _networks(path: Path, texts: tuple[str, ...], owner: str, owners: dict[Network, str]) -> Iterator[Problem]:
    for number, text in enumerate(texts):
        try:
            network = parse_network(text)
        except ValueError as exc:
            yield Problem((*path, number), f"is not a CIDR block: {exc}")
            continue
        if owners.setdefault(network, owner) != owner:
            yield Problem((*path, number), f"{text} is in {owners[network]} already")


def _no_wildcard(path: Path, hosts: object) -> Iterator[Problem]:
    for position, host in enumerate(hosts if isinstance(hosts, list) else []):
        if isinstance(host, str) and host.strip().rstrip(".") in ("*", "*.*"):
            yield Problem((*path, position), "an allow-list for every host would make an open proxy; name the hosts")


def _parsed(path: Path, parse: Callable[[str], object], text: str) -> Iterator[Problem]:
    try:
        parse(text)
    except (ValueError, CatalogueError) as exc:
        yield Problem(path, str(exc))


def _path(path: Path, name: str) -> Iterator[Problem]:
    if any(char < " " or char == "\x7f" for char in name):
        yield Problem(path, "holds a control character")
    elif "://" in name:
        yield Problem(path, "is a URL, not the name of a file or directory")


def _file(path: Path, name: str) -> Iterator[Problem]:
    found = list(_path(path, name))
    yield from found
    if name and not found and not os.path.isfile(name):
        yield Problem(path, f"no such file: {name}")


def _size(path: Path, size: Size, least: int, most: int) -> Iterator[Problem]:
    if not least <= size.bytes <= most:
        yield Problem(path, f"{size} is not from {format_size(least)} to {format_size(most)}")
