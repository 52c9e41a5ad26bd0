"""The bill of materials: ``requirements.lock`` as CycloneDX 1.6 JSON, the same bytes for the same lock.

Owns: reading a lock with hashes, and writing it as components. Needs nothing but the standard library, so that it
adds nothing to what it lists. Every hash of the lock is there: one per file that the installer may choose.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = "requirements.lock"
_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)(?:\s*;\s*(.*))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE = uuid.UUID("6f0f8a0e-6f0c-5f55-9c6e-6b6d7d0c51a1")


@dataclass(frozen=True, slots=True)
class Locked:
    """One entry of a lock: a package at one version, where it is installed, and its files' SHA-256 in hex."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Package URL."""
        return f"pkg:pypi/{re.sub(r'[-_.]+', '-', self.name).lower()}@{self.version}"


def read_lock(text: str) -> list[Locked]:
    """Entries of a lock. ValueError for a line that is not ``name==version [; marker]`` with at least one SHA-256."""
    entries = []
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        head, _, tail = stripped.partition("--hash")
        found = _ENTRY.fullmatch(head.strip())
        hashes = tuple(_HASH.findall(f"--hash{tail}"))
        if found is None or not hashes or len(hashes) != stripped.count("--hash"):
            raise ValueError(f"{stripped[:80]!r} is not pinned by version and SHA-256")
        entries.append(Locked(found[1], found[2], found[3] or "", hashes))
    return entries


def render(lock_text: str, *, name: str, version: str, direct: list[str]) -> str:
    """The document; ``direct`` are the names that the product itself asks for."""
    entries = sorted(read_lock(lock_text), key=lambda entry: entry.purl)
    digest = hashlib.sha256(lock_text.encode()).hexdigest()
    root = f"pkg:generic/{name}@{version}"
    wanted = {re.sub(r"[-_.]+", "-", each).lower() for each in direct}
    asked = [entry.purl for entry in entries if entry.purl.split("/")[1].split("@")[0] in wanted]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{name} {version} {digest}')}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": root, "name": name, "version": version}},
        "components": [_component(entry) for entry in entries],
        "dependencies": [{"ref": root, "dependsOn": asked}],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(entry: Locked) -> dict[str, object]:
    files = [
        {"type": "distribution", "url": entry.purl, "hashes": [{"alg": "SHA-256", "content": content}]}
        for content in entry.hashes
    ]
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": entry.purl,
        "name": entry.name,
        "version": entry.version,
        "purl": entry.purl,
        "externalReferences": files,
    }
    if entry.marker:
        component["properties"] = [{"name": "cacheserver:marker", "value": entry.marker}]
    return component


def main() -> int:
    """Print the bill of materials of this checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "cacheserver" / "__init__.py").read_text())
    assert version is not None
    direct = [re.split(r"[<>=!~ ;\[]", text)[0] for text in project["dependencies"]]
    text = render((ROOT / LOCK).read_text(), name=project["name"], version=version[1], direct=direct)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
