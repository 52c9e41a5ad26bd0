"""From a clean Debian to a node under systemd with HTTPS and a Prometheus that watches it; prints what was found.

``python -m tests.acceptance.booted [--files DIR]``, as root. Exit 0 when every step did what docs/install.md says, 1
otherwise, 2 when this machine cannot run containers. Packages come from the machine's own mirrors, once; the container
itself has no network but loopback.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.booted_scene import Scene
from tests.acceptance.booted_steps import STEPS
from tests.acceptance.container import ContainerFailed, booted, make_root, missing_programs

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "/srv/cacheserver"
WHEELS = "/srv/wheels"
_FETCH_S = 600.0


def main() -> int:
    """Run everything; see the module."""
    parser = argparse.ArgumentParser(description="A node under a booted systemd.")
    parser.add_argument("--files", type=Path, help="where the Debian root and the wheels are kept between runs")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("needs root", file=sys.stderr)
        return 2
    if missing := missing_programs():
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    files = (options.files or Path(tempfile.gettempdir()) / "cacheserver-acceptance").resolve()
    try:
        archive, wheels = make_root(files / "debian.tar"), get_wheels(files / "node-wheels")
        with (
            tempfile.TemporaryDirectory(prefix="cacheserver-booted-") as directory,
            booted(archive, Path(directory), {ROOT: SOURCE, wheels: WHEELS}) as container,
        ):
            scene = Scene(container, source=SOURCE, wheels=WHEELS)
            for step in STEPS:
                _run(step, scene)
    except ContainerFailed as exc:
        print(f"failed: {exc}", file=sys.stderr)
        return 1
    return 0


def _run(step: Callable[[Scene], str], scene: Scene) -> None:
    try:
        found = step(scene)
    except ContainerFailed:
        print(scene.last_words(), file=sys.stderr)
        raise
    print(f"ok: {step.__name__.replace('_', ' ')}: {found}", flush=True)


def get_wheels(folder: Path) -> Path:
    """The packages of the lock files for Debian's Python, from the package index unless they are there already."""
    for lock in ("requirements.lock", "requirements-build.lock"):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        pip += ["--python-version", "3.11", "--dest", str(folder), "-r", lock]
        done = subprocess.run(pip, cwd=ROOT, capture_output=True, timeout=_FETCH_S, check=False)
        if done.returncode:
            raise ContainerFailed(f"pip could not get the packages of {lock}: exit {done.returncode}")
    return folder


if __name__ == "__main__":
    sys.exit(main())
