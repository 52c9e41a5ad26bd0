"""Service tables and ``--allow``: what they mean, and that every mistake is named by its key."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cacheserver.core.errors import ConfigError
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.service import HostRewrite, ManifestRule, Service
from cacheserver.settings.services_table import service_from_allow, services_from_tables


def load(own: bool = True, /, **table: Any) -> Service:
    (service,) = services_from_tables({"x": {"hosts": ["a.example"], **table}}, own=own)
    return service


def test_a_table_with_hosts_alone_is_a_plain_service() -> None:
    assert load() == Service(name="x", hosts=("a.example",), own=True)
    assert load(False) == Service(name="x", hosts=("a.example",), own=False)


def test_every_field_of_a_service_can_be_set() -> None:
    service = load(
        hosts=["A.Example.", "*.B.Example"],
        canonical_host="One.Example",
        rewrites=[{"pattern": r"(?P<n>a)\.example", "replacement": r"\g<n>\1.b"}],
        query="drop-listed",
        query_drop=["P1"],
        scheme_in_key=False,
        collapse_slashes=True,
        scheme="https",
        port=8443,
        lifetime="immutable",
        mutable=["*.cab"],
        mutable_lifetime_s=1,
        stale_while_revalidate_s=2,
        stale_if_error_s=3,
        cacheable=False,
        forward_fields=["Accept", "X-Custom"],
        manifests=[{"path": "/f/*", "url": "{base}.phf"}],
        require="anchored",
        sources=["http://mirror.example/base/", "cachehost+http://10.0.0.5:8080"],
        digest_in_name=True,
        allow_addresses=["10.0.0.0/8", "::1"],
    )
    assert service == Service(
        name="x",
        hosts=("a.example", "*.b.example"),
        canonical_host="one.example",
        rewrites=(HostRewrite(r"(?P<n>a)\.example", r"\g<n>\1.b"),),
        query="drop-listed",
        query_drop=("P1",),
        scheme_in_key=False,
        collapse_slashes=True,
        scheme="https",
        port=8443,
        lifetime="immutable",
        mutable=("*.cab",),
        mutable_lifetime_s=1,
        stale_while_revalidate_s=2,
        stale_if_error_s=3,
        cacheable=False,
        forward_fields=("accept", "x-custom"),
        manifests=(ManifestRule("/f/*", "{base}.phf"),),
        require="anchored",
        sources=("http://mirror.example/base/", "cachehost+http://10.0.0.5:8080"),
        digest_in_name=True,
        allow_addresses=("10.0.0.0/8", "::1/128"),
        own=True,
    )


def test_tables_keep_their_order() -> None:
    tables = {name: {"hosts": [f"{name}.example"]} for name in ("b", "a", "c")}
    assert [service.name for service in services_from_tables(tables, own=True)] == ["b", "a", "c"]


def test_hosts_may_carry_scheme_and_port() -> None:
    service = load(hosts=["http://wsus:8530", "http://wsus2.corp:8530"])
    assert (service.hosts, service.scheme, service.port) == (("wsus", "wsus2.corp"), "http", 8530)
    assert (load(hosts=["wsus:8530"]).scheme, load(hosts=["wsus:8530"]).port) == ("as-requested", 8530)
    assert load(hosts=["https://*.b.example"]).hosts == ("*.b.example",)
    assert load(hosts=["http://a.example:8080"], scheme="http", port=8080).port == 8080


@pytest.mark.parametrize("own", [True, False])
def test_an_ip_literal_permits_itself_for_own_services_only(own: bool) -> None:
    service = load(own, hosts=["10.0.0.5", "[FD00::5]", "a.example"], allow_addresses=["127.0.0.1"])
    assert service.hosts == ("10.0.0.5", "[fd00::5]", "a.example")
    assert service.allow_addresses == ("127.0.0.1/32", *(("10.0.0.5/32", "fd00::5/128") if own else ()))


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("colour", {"colour": "red"}),
    ("manifest", {"manifest": "{base}"}),
    ("hosts", {"hosts": "a.example"}),
    ("hosts", {"hosts": []}),
    ("hosts[0]", {"hosts": [1]}),
    ("hosts", {"hosts": ["*"]}),
    ("hosts", {"hosts": ["*.com"]}),
    ("hosts", {"hosts": ["a_b.example"]}),
    ("hosts", {"hosts": ["127.1"]}),
    ("hosts", {"hosts": ["http://a.example/"]}),
    ("hosts", {"hosts": ["ftp://a.example"]}),
    ("hosts", {"hosts": ["a.example:0"]}),
    ("hosts", {"hosts": ["a.example", "A.example"]}),
    ("hosts", {"hosts": ["http://a.example:1", "http://b.example:2"]}),
    ("hosts", {"hosts": ["http://a.example", "https://b.example"]}),
    ("hosts", {"hosts": ["http://a.example", "b.example"]}),
    ("hosts", {"hosts": ["a.example\n"]}),
    ("scheme", {"hosts": ["http://a.example"], "scheme": "https"}),
    ("scheme", {"scheme": "ftp"}),
    ("port", {"hosts": ["a.example:80"], "port": 81}),
    ("port", {"port": 0}),
    ("port", {"port": 65_536}),
    ("port", {"port": "80"}),
    ("port", {"port": True}),
    ("canonical_host", {"canonical_host": "*.b.example"}),
    ("canonical_host", {"canonical_host": "b.example:80"}),
    ("canonical_host", {"canonical_host": ""}),
    ("rewrites", {"rewrites": [{"pattern": "(", "replacement": "a"}]}),
    ("rewrites", {"rewrites": [{"pattern": "a", "replacement": r"\1"}]}),
    ("rewrites", {"rewrites": [{"pattern": r"([a-z0-9-]+\.?)+\.eu", "replacement": "a"}]}),
    ("rewrites", {"rewrites": [{"pattern": "a", "replacement": r"\g<x>"}]}),
    ("rewrites", {"rewrites": [{"pattern": "a", "replacement": "a\nb"}]}),
    ("rewrites", {"rewrites": [{"pattern": "a", "replacement": r"a\nb"}]}),
    ("rewrites", {"rewrites": [{"pattern": "a", "replacement": ""}]}),
    ("rewrites[0].replacement", {"rewrites": [{"pattern": "a"}]}),
    ("rewrites[0].flags", {"rewrites": [{"pattern": "a", "replacement": "b", "flags": "i"}]}),
    ("query", {"query": "drop"}),
    ("query_drop", {"query": "drop-listed"}),
    ("query_drop", {"query_drop": ["P1"]}),
    ("collapse_slashes", {"collapse_slashes": 1}),
    ("scheme_in_key", {"scheme_in_key": "https"}),
    ("lifetime", {"lifetime": "forever"}),
    ("mutable", {"mutable": "*.cab"}),
    ("mutable_lifetime_s", {"mutable_lifetime_s": -1}),
    ("mutable_lifetime_s", {"mutable_lifetime_s": 1.5}),
    ("cacheable", {"cacheable": "no"}),
    ("forward_fields", {"forward_fields": ["Not A Field"]}),
    ("forward_fields", {"forward_fields": ["Host"]}),
    ("forward_fields", {"forward_fields": ["Range"]}),
    ("forward_fields", {"forward_fields": ["Transfer-Encoding"]}),
    ("forward_fields", {"forward_fields": [""]}),
    ("manifests", {"manifests": [{"path": "*", "url": ""}]}),
    ("manifests", {"manifests": [{"path": "*", "url": "{bass}/x"}]}),
    ("manifests", {"manifests": [{"path": "*", "url": "/x"}]}),
    ("manifests", {"manifests": [{"path": "*", "url": "file:///etc/passwd"}]}),
    ("manifests", {"manifests": [{"path": "*", "url": "{base} x"}]}),
    ("manifests[0].url", {"manifests": [{"path": "*"}]}),
    ("require", {"require": "signed"}),
    ("sources", {"sources": ["ftp://a.example"]}),
    ("sources", {"sources": ["http://"]}),
    ("sources", {"sources": ["http://u@a.example"]}),
    ("sources", {"sources": ["http://a.example/?x"]}),
    ("sources", {"sources": ["a.example"]}),
    ("allow_addresses", {"allow_addresses": ["10.0.0.1/8"]}),
    ("allow_addresses", {"allow_addresses": ["private"]}),
    ("allow_addresses", {"allow_addresses": ["fe80::1%eth0"]}),
]


@pytest.mark.parametrize(("field", "table"), MISTAKES)
def test_a_mistake_is_a_config_error_named_by_its_key(field: str, table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**table)
    assert caught.value.key == f"services.x.{field}"
    assert re.fullmatch(r"[^\n]+", str(caught.value))


def test_hosts_are_required() -> None:
    with pytest.raises(ConfigError) as caught:
        services_from_tables({"x": {}}, own=True)
    assert caught.value.key == "services.x.hosts"


@pytest.mark.parametrize("table", [1, "a.example", ["a.example"], None])
def test_a_service_must_be_a_table(table: object) -> None:
    with pytest.raises(ConfigError) as caught:
        services_from_tables({"x": table}, own=True)
    assert caught.value.key == "services.x"


@pytest.mark.parametrize("name", ["", "a b", "-a", "*", "a\nb", "ü", "a" * 65])
def test_service_names_are_plain_words(name: str) -> None:
    with pytest.raises(ConfigError):
        services_from_tables({name: {"hosts": ["a.example"]}}, own=True)


# -- --allow ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "host", "scheme", "port", "allowed"),
    [
        ("a.example", "a.example", "as-requested", None, ()),
        ("A.Example.", "a.example", "as-requested", None, ()),
        ("a.example:8080", "a.example", "as-requested", 8080, ()),
        ("http://wsus:8530", "wsus", "http", 8530, ()),
        ("https://a.example", "a.example", "https", None, ()),
        ("https://a.example:8443", "a.example", "https", 8443, ()),
        ("*.a.example", "*.a.example", "as-requested", None, ()),
        ("10.0.0.5", "10.0.0.5", "as-requested", None, ("10.0.0.5/32",)),
        ("http://127.0.0.1:9000", "127.0.0.1", "http", 9000, ("127.0.0.1/32",)),
        ("[::1]:9000", "[::1]", "as-requested", 9000, ("::1/128",)),
    ],
)
def test_allow_makes_an_own_service_with_rfc_rules(
    value: str, host: str, scheme: str, port: int | None, allowed: tuple[str, ...]
) -> None:
    service = service_from_allow(value)
    assert (service.name, service.hosts, service.scheme, service.port) == (host, (host,), scheme, port)
    assert service.allow_addresses == allowed
    assert service.own
    assert (service.query, service.lifetime, service.forwards_everything) == ("keep", "rfc", True)
    assert AllowList([service]).match(host.replace("*", "x")) is service


@pytest.mark.parametrize(
    "value",
    [
        *("", "*", "*.com", "*:80", "http://*", "http://", "http://a.example/", "ftp://a.example", "a b"),
        *("a.example:0", "a.example:65536", "u@a.example", "a_b", "127.1", "0x7f000001", "::1", "a.example,b.example"),
    ],
)
def test_allow_refuses_what_is_no_host(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        service_from_allow(value)
    assert caught.value.key == "allow"
