"""From the URL of a piece-hash file back to its content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.integrity.manifest_url import MOST_CANDIDATES, content_urls
from cacheserver.core.request.admission import parse_target
from cacheserver.core.request.allowlist import AllowList
from cacheserver.core.request.keys import manifest_url
from cacheserver.core.request.service import ManifestRule, Service
from cacheserver.core.request.target import Form, Target
from cacheserver.settings.shipped import load_shipped_services

SHIPPED = load_shipped_services()
GUID = "52fa8751-747d-479d-8f22-e32730cc0eb1"
DO = "dl.delivery.mp.microsoft.com"


def target_of(url: str, services: tuple[Service, ...] = SHIPPED) -> Target:
    host = url.split("/")[2]
    return parse_target(url, (host,), tls=url.startswith("https:"), allowlist=AllowList(services))


def plain_target(service: Service, path: str) -> Target:
    return Target(Form.HOST, service, "http", "a.test", 80, path, f"k{path}", "0" * 32)


@pytest.mark.parametrize(
    ("asked", "content"),
    [
        (f"http://{DO}/filestreamingservice/files/{GUID}/pieceshash", f"http://{DO}/filestreamingservice/files/{GUID}"),
        (
            f"http://{DO}/filestreamingservice/files/{GUID}/pieceshash?P1=1&P4=a%2b",
            f"http://{DO}/filestreamingservice/files/{GUID}",
        ),
        ("https://swda01.manage.microsoft.com/a/b.bin.phf", "https://swda01.manage.microsoft.com/a/b.bin"),
        ("http://swda01.manage.microsoft.com/a/b.bin.phf", "http://swda01.manage.microsoft.com/a/b.bin"),
    ],
)
def test_content_of_a_shipped_services_file_is_the_first_candidate(asked: str, content: str) -> None:
    assert content_urls(target_of(asked), SHIPPED)[0] == content


@pytest.mark.parametrize(
    "asked",
    [
        f"http://{DO}/filestreamingservice/files/{GUID}",
        f"http://{DO}/filestreamingservice/files/{GUID}/pieceshash/more",
        f"http://{DO}/pieceshashes",
        "http://swda01.manage.microsoft.com/a/b.phf.bin",
    ],
)
def test_other_urls_have_no_content(asked: str) -> None:
    assert content_urls(target_of(asked), SHIPPED) == ()


@pytest.mark.parametrize(
    ("template", "asked", "contents"),
    [
        ("{base}.phf", "http://a.test/x/y.phf", ("http://a.test/x/y",)),
        ("http://a.test/phf{path}", "http://a.test/phf/x", ("http://a.test/x", "https://a.test/x", "http://b.test/x")),
        ("http://{key_host}/phf{path}", "http://b.test/phf/x", ("http://b.test/x", "https://b.test/x")),
        ("https://a.test/{key_host}{path}?v=1", "http://a.test/b.test/x", ()),
        ("http://a.test{path}-of{path}", "http://a.test/x-of/x", ("http://a.test/x",)),
        ("http://a.test{path}-of{path}", "http://a.test/x-of/y", ()),
        ("http://a.test/one.phf", "http://a.test/one.phf", ()),
        ("http://a.test/a.c{path}", "http://a.test/abc/x", ()),
    ],
)
def test_templates_are_read_backwards(template: str, asked: str, contents: tuple[str, ...]) -> None:
    rule = ManifestRule(path="*", url=template)
    service = Service(name="s", hosts=("a.test", "b.test", "*.c.test"), manifests=(rule,))
    assert content_urls(target_of(asked, (service,)), (service,))[: len(contents) or None] == contents


def test_candidates_are_bounded() -> None:
    hosts = ("a.test", *(f"h{number}.test" for number in range(100)))
    service = Service(name="s", hosts=hosts, manifests=(ManifestRule(path="*", url="http://a.test/phf{path}"),))
    assert len(content_urls(target_of("http://a.test/phf/x", (service,)), (service,))) == MOST_CANDIDATES


@given(
    path=st.text(alphabet="abc/.-_~%4142", min_size=1, max_size=30).map(lambda text: f"/{text}"),
    template=st.sampled_from(("{base}/pieceshash", "https://{key_host}{path}.phf", "http://a.test/d{path}/e")),
)
def test_reversing_finds_every_content_whose_rule_leads_there(path: str, template: str) -> None:
    service = Service(name="s", hosts=("a.test",), manifests=(ManifestRule(path="*", url=template),))
    content = plain_target(service, path)
    url = manifest_url(content)
    assert url is not None
    place = plain_target(service, url.split("a.test", 1)[1])
    assert f"http://a.test{path}" in content_urls(place, (service,))
