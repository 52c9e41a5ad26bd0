"""The files of the status page: who gets them, under which policy, and that they need nothing else."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from aiohttp import ClientSession

from cacheserver.web.admin.status_page import PATHS, POLICY
from cacheserver.web.options import AdminOptions
from tests.web.admin.test_app import TOKEN, admin

FOLDER = resources.files("cacheserver").joinpath("data/page")
SHIPPED = {item.name: item.read_text(encoding="utf-8") for item in FOLDER.iterdir()}


async def fetched(session: ClientSession, url: str) -> str:
    async with session.get(url) as response:
        assert response.status == 200, url
        return await response.text()


def test_the_policy_admits_the_node_itself_and_nothing_else() -> None:
    assert POLICY == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_each_file_has_its_type_and_the_policy_and_is_not_kept(path: str) -> None:
    kinds = {"/": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    async with admin() as (session, base), session.get(base + path) as response:
        assert (response.status, response.content_type) == (200, kinds[path.rpartition(".")[2]])
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Server" not in response.headers
        assert await response.text() in SHIPPED.values()


async def test_every_shipped_file_is_served_and_every_reference_leads_to_one() -> None:
    async with admin() as (session, base):
        served = {path: await fetched(session, base + path) for path in PATHS}
    assert sorted(served.values()) == sorted(SHIPPED.values())
    html = served["/"]
    used = {f"/{found}" for found in re.findall(r'(?:src|href)="([^"#]+)"', html)}
    for path, text in served.items():
        if path.endswith(".js"):
            used |= {f"/page/{found}" for found in re.findall(r'from "\./([^"]+)"', text)}
    assert used == PATHS - {"/"}


def test_nothing_is_inline_and_nothing_names_an_outside_host() -> None:
    html = SHIPPED["index.html"]
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) == [""]
    assert "<style" not in html
    assert not re.search(r"<[^>]*\s(?:style|on[a-z]+)\s*=", html)
    for name, text in SHIPPED.items():
        hosts = set(re.findall(r"(?:https?:)?//([a-z0-9.-]+\.[a-z]+)", text))
        assert hosts <= {"www.w3.org"}, name
        assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|localStorage)\b", text)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_page_needs_no_token_but_its_data_do(method: str) -> None:
    async with admin(AdminOptions(token=TOKEN)) as (session, base):
        for path in sorted(PATHS):
            async with session.request(method, base + path) as response:
                assert response.status == 200, path
        for path in ("/api/v1/overview", "/api/v1/status", "/page/", "/page/index.html", "/page/../api/v1/status"):
            async with session.request(method, base + path) as response:
                assert response.status == 401, path
        async with session.get(f"{base}/api/v1/overview", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
            assert response.status == 200


async def test_without_a_token_a_page_that_rebinds_its_name_does_not_get_it() -> None:
    async with admin() as (session, base), session.get(base, headers={"Host": "attacker.example"}) as response:
        assert response.status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_the_page_takes_nothing(method: str) -> None:
    async with admin() as (session, base), session.request(method, base) as response:
        assert response.status == 405


# -- colours --------------------------------------------------------------------------------------------------------


def colours(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", text))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_colour_has_enough_contrast(scheme: str) -> None:
    light, dark = (part.partition("}")[0] for part in SHIPPED["status.css"].split(":root {")[1:])
    values = colours(light) if scheme == "light" else colours(dark)
    assert set(colours(light)) == set(colours(dark))
    for name in set(values) - {"back", "card", "rule"}:
        for ground in ("back", "card"):
            lighter, darker = sorted((luminance(values[name]), luminance(values[ground])), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (name, ground)
