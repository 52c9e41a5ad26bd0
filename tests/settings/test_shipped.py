"""The shipped services: which hosts they serve, which requests share an object, what changes at a fixed path."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import cacheserver
from cacheserver.core.errors import HostNotAllowed
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.keys import key_host, manifest_url
from cacheserver.core.request.service import Service
from cacheserver.core.request.target import Target
from cacheserver.settings.shipped import load_shipped_services

PACKAGE = Path(cacheserver.__file__).parent
GUID = "52fa8751-747d-479d-8f22-e32730cc0eb1"
SERVICES = {service.name: service for service in load_shipped_services()}
ALLOWLIST = AllowList(SERVICES.values())


def ask(host: str, path: str, *, tls: bool = False) -> Target:
    return parse_target(path, (host,), tls=tls, allowlist=ALLOWLIST)


def matched(host: str) -> Service:
    service = ALLOWLIST.match(host)
    assert service is not None
    return service


def test_the_copy_for_operators_is_the_file_that_is_used() -> None:
    copy = PACKAGE.parent / "config" / "services.toml"
    assert copy.read_bytes() == (PACKAGE / "data" / "services.toml").read_bytes()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("download.windowsupdate.com", "windows-update"),
        ("au.b1.download.windowsupdate.com", "windows-update"),
        ("tsfe.trafficshaping.windowsupdate.com", "windows-update"),
        ("dl.delivery.mp.microsoft.com", "windows-update"),
        ("9.tlu.dl.delivery.mp.microsoft.com", "windows-update"),
        ("bg.emdl.ws.microsoft.com", "windows-update"),
        ("ctldl.windowsupdate.com", "windows-update-lists"),
        ("msedge.b.tlu.dl.delivery.mp.microsoft.com", "edge"),
        ("other.delivery.mp.microsoft.com", "edge"),
        ("officecdn.microsoft.com", "microsoft-365"),
        ("x.officecdn.microsoft.com", "microsoft-365"),
        ("officecdn.microsoft.com.edgesuite.net", "microsoft-365"),
        ("x.officecdn.microsoft.com.edgesuite.net", "microsoft-365"),
        ("f.c2r.ts.cdn.office.net", "microsoft-365"),
        *(
            (f"swd{letter}0{n}{cdn}.manage.microsoft.com", "intune")
            for letter in "abcd"
            for n in "12"
            for cdn in ("", "-mscdn")
        ),
        ("x.statics.teams.cdn.office.net", "teams"),
        ("installer.teams.static.microsoft", "teams"),
        ("x.res.cdn.office.net", "teams"),
        ("assets1.xboxlive.com", "xbox"),
        ("xvcf2.xboxlive.com", "xbox"),
        ("dlassets.xboxlive.com", "xbox"),
        ("assets.xbox.com", "xbox"),
        ("a--b.b.nlu.dl.adu.microsoft.com", "device-update"),
        ("cp501.prod.do.dsp.mp.microsoft.com", "delivery-optimization-service"),
    ],
)
def test_hosts_belong_to_their_service(host: str, name: str) -> None:
    assert matched(host).name == name


@pytest.mark.parametrize(
    "host",
    [
        "microsoft.com",
        "www.microsoft.com",
        "login.microsoftonline.com",
        "windowsupdate.com",
        "user.auth.xboxlive.com",
        "swde01.manage.microsoft.com",
        "manage.microsoft.com",
        "evilofficecdn.microsoft.com",
        "officecdn.microsoft.com.evil.example",
        "xdownload.windowsupdate.com.example",
        "127.0.0.1",
    ],
)
def test_other_hosts_belong_to_none(host: str) -> None:
    with pytest.raises(HostNotAllowed):
        ask(host, "/")


@pytest.mark.parametrize(
    ("host", "folded"),
    [
        ("9.tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("2.tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("au.download.windowsupdate.com", "download.windowsupdate.com"),
        ("b1.download.windowsupdate.com", "download.windowsupdate.com"),
        ("au.b1.download.windowsupdate.com", "download.windowsupdate.com"),
        ("8.au.download.windowsupdate.com", "download.windowsupdate.com"),
        ("ds.download.windowsupdate.com", "ds.download.windowsupdate.com"),
        ("msedge.f.dl.delivery.mp.microsoft.com", "msedge.b.tlu.dl.delivery.mp.microsoft.com"),
        ("swda01-mscdn.manage.microsoft.com", "swda01.manage.microsoft.com"),
        ("swdb01-mscdn.manage.microsoft.com", "swdb01.manage.microsoft.com"),
        ("x.officecdn.microsoft.com.edgesuite.net", "officecdn.microsoft.com"),
        ("x.cdn.office.net", "x.cdn.office.net"),
        ("assets2.xboxlive.com", "assets2.xboxlive.com"),
    ],
)
def test_shards_share_one_host_in_the_key(host: str, folded: str) -> None:
    assert key_host(matched(host), host) == folded


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service.cacheable])
def test_tokens_and_doubled_slashes_are_not_in_the_key(name: str) -> None:
    host = SERVICES[name].hosts[0].replace("*", "x")
    signed = f"/f//x?P1=1700000000&P2=404&v=1&P3=2&P4=abc%2bdef%3d%3d&cacheHostOrigin=y.example&cacheHostOrigin={host}"
    assert ask("cache.corp", signed).key == ask(host, "/f/x?v=1", tls=not SERVICES[name].scheme_in_key).key
    assert ask(host, "/f/x?v=1").key != ask(host, "/f/x").key


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service.cacheable])
def test_nothing_that_came_over_http_answers_a_tls_client_of_services_that_use_https(name: str) -> None:
    host = SERVICES[name].hosts[0].replace("*", "x")
    apart = name in ("intune", "teams", "xbox")
    assert (ask(host, "/f/x").object_id != ask(host, "/f/x", tls=True).object_id) is apart


def test_shipped_services_are_not_own_and_forward_nothing() -> None:
    for service in SERVICES.values():
        assert not service.own
        assert service.forward_fields == ()
        assert service.allow_addresses == ()


def test_content_is_immutable_where_paths_name_it_and_the_service_itself_is_never_cached() -> None:
    by_rfc = {name for name, service in SERVICES.items() if service.lifetime == "rfc"}
    assert by_rfc == {"teams", "delivery-optimization-service"}
    assert [name for name, service in SERVICES.items() if not service.cacheable] == ["delivery-optimization-service"]
    found = ask("cp501.prod.do.dsp.mp.microsoft.com", "/content/x")
    assert (found.scheme, found.port) == ("https", 443)


@pytest.mark.parametrize(
    ("host", "path", "mutable"),
    [
        ("ctldl.windowsupdate.com", "/msdownload/update/v3/static/trustedr/en/authrootstl.cab", True),
        ("ctldl.windowsupdate.com", "/any.cab", True),
        ("www.download.windowsupdate.com", "/msdownload/update/v3/static/trustedr/en/disallowedcertstl.cab", True),
        ("download.windowsupdate.com", "/msdownload/update/v3/static/trustedr/en/pinrulesstl.cab", True),
        ("download.windowsupdate.com", "/c/msdownload/update/software/secu/2024/01/kb_0a1b.cab", False),
        ("download.windowsupdate.com", "/phf/c/doc/ph/prod1/x", True),
        ("dl.delivery.mp.microsoft.com", f"/filestreamingservice/files/{GUID}", False),
        ("dl.delivery.mp.microsoft.com", f"/filestreamingservice/files/{GUID}/pieceshash", True),
        ("officecdn.microsoft.com", "/pr/x/Office/Data/v64.cab", True),
        ("officecdn.microsoft.com", "/pr/x/Office/Data/v64_16.0.1.2.cab", False),
    ],
)
def test_what_changes_at_a_fixed_path_is_mutable(host: str, path: str, mutable: bool) -> None:
    assert any(fnmatchcase(path, pattern) for pattern in matched(host).mutable) is mutable


@pytest.mark.parametrize(
    ("host", "path", "url"),
    [
        (
            "dl.delivery.mp.microsoft.com",
            f"/filestreamingservice/files/{GUID}?P1=1&P4=x",
            f"http://dl.delivery.mp.microsoft.com/filestreamingservice/files/{GUID}/pieceshash",
        ),
        (
            "msedge.b.tlu.dl.delivery.mp.microsoft.com",
            f"/filestreamingservice/files/{GUID}",
            f"http://msedge.b.tlu.dl.delivery.mp.microsoft.com/filestreamingservice/files/{GUID}/pieceshash",
        ),
        ("dl.delivery.mp.microsoft.com", f"/filestreamingservice/files/{GUID}/pieceshash", None),
        ("dl.delivery.mp.microsoft.com", f"/filestreamingservice/files/{GUID}/Microsoft.png", None),
        (
            "swda01-mscdn.manage.microsoft.com",
            "/a/b/c.intunewin.bin?x=1",
            "https://swda01.manage.microsoft.com/a/b/c.intunewin.bin.phf",
        ),
        ("swda01.manage.microsoft.com", "/a/b/c.intunewin.bin.phf", None),
        ("download.windowsupdate.com", "/c/msdownload/x.cab", None),
    ],
)
def test_piece_hash_files_are_where_clients_look_for_them(host: str, path: str, url: str | None) -> None:
    assert manifest_url(ask(host, path)) == url


@pytest.mark.parametrize(
    ("host", "kept_as"),
    [
        ("1b.tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("storeapps.f.tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("msk8s.b.tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("msk8s.f.tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("msedgeextensions.sf.tlu.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("catalog.sf.dl.delivery.mp.microsoft.com", "dl.delivery.mp.microsoft.com"),
        ("b.c2r.ts.cdn.office.net", "officecdn.microsoft.com"),
        ("f.c2r.ts.cdn.office.net", "officecdn.microsoft.com"),
        ("a.b-c.officecdn.microsoft.com", "officecdn.microsoft.com"),
        ("notofficecdn.microsoft.com.cdn.office.net", "notofficecdn.microsoft.com.cdn.office.net"),
        ("x.c2r.ts.cdn.office.net", "x.c2r.ts.cdn.office.net"),
    ],
)
def test_other_names_of_the_same_files_share_a_key_and_no_more(host: str, kept_as: str) -> None:
    assert key_host(matched(host), host) == kept_as
