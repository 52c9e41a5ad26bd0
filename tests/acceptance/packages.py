"""pip and apt through the node: real wheels and real .deb files behind a local index and a local repository.

Owns getting the files once, by the ordinary clients and with the machine's own settings, and the two metadata formats.
What runs through the node knows of no other index, mirror or proxy.
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

from tests.acceptance.lab import PACKAGES_HOST, Case, ClientFailed, Lab, sha256_of

WHEELS = ("numpy", "scipy")
DEBS = ("fonts-noto-cjk", "openjdk-17-jre-headless")
_FETCH_TIMEOUT_S = 600


def get_wheels(folder: Path) -> list[Path]:
    """The wheels, from the package index unless they are there already."""
    if not list(folder.glob("*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        _fetch([*pip, *WHEELS], folder)
    return sorted(folder.glob("*.whl"))


def get_debs(folder: Path) -> list[Path]:
    """The .deb files, from the machine's mirrors unless they are there already."""
    if not list(folder.glob("*.deb")):
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(["apt-get", "-qq", "download", *DEBS], folder)
    return sorted(folder.glob("*.deb"))


def _fetch(argv: list[str], folder: Path) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, timeout=_FETCH_TIMEOUT_S, check=False)
    if done.returncode:
        raise ClientFailed(f"the files could not be got with {argv[0]}: exit {done.returncode}")


async def pip_index(lab: Lab, wheels: list[Path]) -> Case:
    """pip asks the node as its index host; wheels and index pages come from the origin behind it."""
    case = Case("pip, the node as its index host", "pip")
    paths = [_add_wheel(lab, wheel) for wheel in wheels]
    names = [wheel.name.partition("-")[0] for wheel in wheels]
    for name in ("cold", "warm"):
        folder = lab.folder(f"pip-{name}")
        argv = [sys.executable, "-m", "pip", "--isolated", "download", "--quiet", "--no-deps", "--no-cache-dir"]
        argv += ["--disable-pip-version-check", "--index-url", f"{lab.node_url}/simple", "--trusted-host", "127.0.0.1"]
        async with lab.run(case, name, paths):
            await lab.command(case, [*argv, *names], cwd=folder)
        for path in paths:
            lab.check(path, folder / Path(path).name)
    lab.expect_once_then_never(case)
    return case


def _add_wheel(lab: Lab, wheel: Path) -> str:
    path = lab.add(f"/wheels/{wheel.name}", wheel)
    project = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
    page = lab.origin.root / "simple" / project / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    link = f"{html.escape(path)}#sha256={lab.digests[path]}"
    page.write_text(f'<!doctype html><title>{project}</title><a href="{link}">{html.escape(wheel.name)}</a>\n')
    return path


async def apt_proxy(lab: Lab, debs: list[Path]) -> Case:
    """apt asks the node as its HTTP proxy; every run begins with an empty apt."""
    case = Case("apt-get, the node as its proxy, absolute form", "apt-get")
    paths = [lab.add(f"/debian/pool/{deb.name.replace('%', '_')}", deb) for deb in debs]
    names = await _write_repository(lab, paths)
    for name in ("cold", "warm"):
        folder = lab.folder(f"apt-{name}")
        env = {"APT_CONFIG": str(_apt_config(lab, folder))}
        async with lab.run(case, name, paths):
            await lab.command(case, ["apt-get", "-q", "update"], cwd=folder, env=env)
            await lab.command(case, ["apt-get", "-q", "download", *names], cwd=folder, env=env)
        got = {sha256_of(file) for file in folder.glob("*.deb")}
        if got != {lab.digests[path] for path in paths}:
            raise ClientFailed("apt-get: a package with a wrong digest")
    case.notes.append(
        'Configuration of apt: `Acquire::http::Proxy "http://NODE";`, an empty directory tree for each run, and '
        f"`deb [trusted=yes] http://{PACKAGES_HOST}/debian lab main` as the only source."
    )
    lab.expect_once_then_never(case)
    return case


async def _write_repository(lab: Lab, paths: list[str]) -> list[str]:
    """One Packages file and one Release that names its digest; the packages' names."""
    quiet = Case("repository", "dpkg")
    machine = (await lab.command(quiet, ["dpkg", "--print-architecture"], cwd=lab.directory)).strip()
    entries, names = [], []
    for path in paths:
        file = lab.origin.root / path.lstrip("/")
        control = (await lab.command(quiet, ["dpkg-deb", "-f", file], cwd=lab.directory)).strip()
        names.append(control.partition("Package: ")[2].partition("\n")[0])
        place = path.removeprefix("/debian/")
        entries.append(f"{control}\nFilename: {place}\nSize: {lab.sizes[path]}\nSHA256: {lab.digests[path]}\n")
    suite = lab.origin.root / "debian" / "dists" / "lab"
    packages = suite / "main" / f"binary-{machine}" / "Packages"
    packages.parent.mkdir(parents=True)
    packages.write_text("\n".join(entries))
    listed = packages.relative_to(suite)
    (suite / "Release").write_text(
        f"Suite: lab\nCodename: lab\nComponents: main\nArchitectures: {machine}\n"
        f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {sha256_of(packages)} {packages.stat().st_size} {listed}\n"
    )
    return names


def _apt_config(lab: Lab, folder: Path) -> Path:
    for part in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d", "log"):
        (folder / "apt" / part).mkdir(parents=True)
    (folder / "apt/state/status").write_text("")
    (folder / "apt/etc/sources.list").write_text(f"deb [trusted=yes] http://{PACKAGES_HOST}/debian lab main\n")
    config = folder / "apt.conf"
    config.write_text(
        f'Acquire::http::Proxy "{lab.node_url}";\n'
        f'Dir::Etc "{folder}/apt/etc";\nDir::Etc::sourceparts "-";\nDir::State "{folder}/apt/state";\n'
        f'Dir::State::status "{folder}/apt/state/status";\nDir::Cache "{folder}/apt/cache";\n'
        f'Dir::Log "{folder}/apt/log";\nAPT::Sandbox::User "";\nAcquire::Languages "none";\nAcquire::Retries "0";\n'
    )
    return config
