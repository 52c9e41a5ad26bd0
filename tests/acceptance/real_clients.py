"""Real programs through a real node from a real origin; prints the transcript as Markdown.

``python -m tests.acceptance.real_clients [--output FILE] [--files DIR]``. Exit 0 when every program that is installed
got right bytes at the right cost, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.acceptance.browser import chromium_download, chromium_program
from tests.acceptance.downloaders import DOWNLOADERS
from tests.acceptance.lab import Case, ClientFailed, Lab, running_lab
from tests.acceptance.nginx_origin import nginx_program
from tests.acceptance.packages import apt_proxy, get_debs, get_wheels, pip_index
from tests.acceptance.transcript import render

_VERSIONS = {
    "nginx": ("-v",),
    "curl": ("--version",),
    "wget": ("--version",),
    "aria2c": ("--version",),
    "chromium": ("--version",),
    "apt-get": ("--version",),
}
_SEED = 20


def main() -> int:
    """Run everything; see the module."""
    parser = argparse.ArgumentParser(description="Real clients through a real node.")
    parser.add_argument("--output", type=Path, help="file for the transcript; without it: standard output")
    parser.add_argument("--files", type=Path, help="where wheels and packages are kept between runs")
    options = parser.parse_args()
    if nginx_program() is None:
        print("nginx is not installed", file=sys.stderr)
        return 1
    files = options.files or Path(tempfile.gettempdir()) / "cacheserver-acceptance"
    with tempfile.TemporaryDirectory(prefix="cacheserver-lab-") as directory:
        try:
            page = asyncio.run(_run(Path(directory), files.resolve()))
        except ClientFailed as exc:
            print(f"failed: {exc}", file=sys.stderr)
            return 1
    if options.output is None:
        print(page, end="")
    else:
        options.output.write_text(page)
    return 0


async def _run(directory: Path, files: Path) -> str:
    wheels = get_wheels(files / "wheels")
    debs = get_debs(files / "debs") if shutil.which("apt-get") and shutil.which("dpkg-deb") else []
    payload = max([*wheels, *debs], key=lambda file: file.stat().st_size)
    async with running_lab(directory) as lab:
        cases, skipped = await _cases(lab, payload, wheels, debs)
    return render(cases, versions=_versions(), skipped=skipped)


async def _cases(lab: Lab, payload: Path, wheels: list[Path], debs: list[Path]) -> tuple[list[Case], dict[str, str]]:
    chance = random.Random(_SEED)
    cases: list[Case] = []
    skipped: dict[str, str] = {}
    for program, runner in DOWNLOADERS:
        if shutil.which(program) is None:
            skipped[program] = "it is not installed"
            continue
        cases.append(_said(await runner(lab, payload, chance)))
    if chromium_program() is None:
        skipped["Chromium"] = "it is not installed"
    else:
        cases.append(_said(await chromium_download(lab, payload)))
    cases.append(_said(await pip_index(lab, wheels)))
    if debs:
        cases.append(_said(await apt_proxy(lab, debs)))
    else:
        skipped["apt-get"] = "this is no Debian"
    return cases, skipped


def _said(case: Case) -> Case:
    print(f"ok: {case.title}", file=sys.stderr)
    return case


def _versions() -> dict[str, str]:
    """The first line of what each program says of itself."""
    found = {}
    for name, arguments in _VERSIONS.items():
        program = nginx_program() if name == "nginx" else shutil.which(name)
        if program is not None:
            done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
            lines = (done.stdout or done.stderr).splitlines()
            found[name] = lines[0].split(" (")[0].rstrip(".") if lines else name
    pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    found["pip"] = " ".join(pip.stdout.split()[:2])
    return found


if __name__ == "__main__":
    sys.exit(main())
