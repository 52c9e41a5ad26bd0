"""What is installed is what was chosen: every package pinned by hash, floors with reasons, a bill of materials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cacheserver.node.preflight import AIOHTTP_FLOOR
from tests.security.figures import Figure, Row, Scene
from tools.sbom import LOCK, ROOT, Locked, read_lock, render

_FLOOR = re.compile(r"([A-Za-z0-9-]+)(==|>=|~=)([0-9.]+)")


def floors() -> dict[str, tuple[int, ...]]:
    """The oldest version of each package that the product accepts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [_FLOOR.match(text) for text in project["dependencies"]]
    assert all(found), project["dependencies"]
    return {match[1]: _version(match[3]) for match in found if match is not None}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def lock_faults(name: str) -> tuple[list[Locked], list[str]]:
    """Entries of a lock, and what is wrong with it."""
    text = (ROOT / name).read_text()
    try:
        entries = read_lock(text)
    except ValueError as error:
        return [], [f"{name}: {error}"]
    locked = {re.sub(r"[-_.]+", "-", entry.name).lower(): _version(entry.version) for entry in entries}
    faults = [f"{name}: {package} is missing" for package in floors() if package not in locked]
    faults += [f"{name}: {p} is below its floor" for p, floor in floors().items() if p in locked and locked[p] < floor]
    if re.search(r"--(?:extra-)?index-url|--find-links|://|git\+", text):
        faults.append(f"{name} names a place to install from")
    return entries, faults


def document_faults() -> list[str]:
    """What the pages must say: each floor with its advisory or reason, how to report, how to make the bill."""
    page = (ROOT / "docs" / "security.md").read_text()
    faults = [f"docs/security.md does not give the floor of {name}" for name in floors() if f"| {name} |" not in page]
    if "CVE-2025-69872" not in page:
        faults.append("docs/security.md does not name diskcache's advisory")
    for word, file in (("privately", "SECURITY.md"), ("make sbom", "SECURITY.md"),
                       ("make audit", "SECURITY.md"), ("@sha256:", "Dockerfile"), ("--require-hashes", "Makefile"),
                       ("--require-hashes", "Dockerfile")):  # fmt: skip
        if word not in (ROOT / file).read_text():
            faults.append(f"{file} does not say {word}")
    return faults


def made_bill() -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "tools.sbom"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


async def measure(scene: Scene) -> Figure:
    """Both locks, the pages, the bill."""
    entries, faults = lock_faults(LOCK)
    faults += lock_faults("requirements-test.lock")[1] + document_faults()
    if floors()["aiohttp"] != AIOHTTP_FLOOR:
        faults.append("the floor of aiohttp in pyproject.toml is not the one that is checked at the start")
    text = made_bill()
    bill = json.loads(text)
    hashes = sum(len(part["externalReferences"]) for part in bill["components"])
    if hashes != sum(len(entry.hashes) for entry in entries) or len(bill["components"]) != len(entries):
        faults.append("the bill of materials is not the lock")
    (scene.directory / "sbom.json").write_text(text)
    return Figure(
        f"{len(entries)} packages, all pinned by {hashes} SHA-256; bill of {len(bill['components'])} parts", faults
    )


ROW = Row("supply chain", "hash-pinned lock, floors with advisories, SBOM, SECURITY.md", measure)


async def test_the_supply_chain_is_pinned_and_written_down(tmp_path: Path) -> None:
    (await measure(Scene(tmp_path))).check()


@pytest.mark.parametrize(
    "line", ["x", "x>=1 --hash=sha256:" + "0" * 64, "x==1", "x==1 --hash=md5:0", "x @ file:///x", "-r other.txt"]
)
def test_a_line_that_is_not_pinned_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not pinned"):
        read_lock(f"{line}\n")


def test_the_bill_is_the_same_for_the_same_lock_and_names_what_the_product_asks_for() -> None:
    lock = (
        "a-b==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:"
        + "0" * 64
        + "\nc_d==2 --hash=sha256:"
        + "1" * 64
        + "\n"
    )
    bill = render(lock, name="p", version="1", direct=["C-d"])
    assert bill == render(lock, name="p", version="1", direct=["C-d"])
    document = json.loads(bill)
    assert [part["purl"] for part in document["components"]] == ["pkg:pypi/a-b@1.0", "pkg:pypi/c-d@2"]
    assert document["components"][0]["properties"][0]["value"] == "sys_platform == 'linux'"
    assert document["dependencies"] == [{"ref": "pkg:generic/p@1", "dependsOn": ["pkg:pypi/c-d@2"]}]
