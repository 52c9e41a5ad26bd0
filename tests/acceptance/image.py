"""The image, built by buildah on a base made here and run on a read-only root by an ordinary user.

``python -m tests.acceptance.image [--files DIR]``, as root. Exit 0 when the image does what docs/install.md says, 1
otherwise, 2 when this machine lacks a program. No engine and no registry are needed: the base is a Debian made by
mmdebstrap, packages come as wheels, and namespaces of util-linux take the place of an engine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.acceptance.booted import ROOT, get_wheels
from tests.acceptance.container import ContainerFailed, make_root

PROGRAMS: Final = ("mmdebstrap", "buildah", "unshare", "chroot", "curl", "ip")
BASE_PACKAGES: Final = ("python3-venv", "ca-certificates")
RUN: Final = str(ROOT / "tests/acceptance/image_run.sh")
CONTEXT: Final = (
    *("Dockerfile", "requirements.lock", "requirements-build.lock"),
    *("pyproject.toml", "README.md", "LICENSE"),
)
USER: Final = "10001:10001"
_LIMIT_S: Final = 900.0


def main() -> int:
    """Run everything; see the module."""
    parser = argparse.ArgumentParser(description="The image, built and run.")
    parser.add_argument("--files", type=Path, help="where the base and the wheels are kept between runs")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("needs root", file=sys.stderr)
        return 2
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    files = (options.files or Path(tempfile.gettempdir()) / "cacheserver-acceptance").resolve()
    try:
        archive = make_root(files / "base.tar", packages=BASE_PACKAGES)
        wheels = get_wheels(files / "node-wheels")
        with tempfile.TemporaryDirectory(prefix="cacheserver-image-") as directory:
            buildah = Buildah(Path(directory))
            try:
                _build_and_run(buildah, archive, wheels)
            finally:
                buildah("umount", "--all")
    except ContainerFailed as exc:
        print(f"failed: {exc}", file=sys.stderr)
        return 1
    return 0


class Buildah:
    """buildah with a store of its own in ``directory``, which is gone afterwards."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        store = directory / "store"
        self._start = ["buildah", "--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "overlay"]

    def __call__(self, *arguments: str | Path) -> str:
        """What buildah prints. Raises ContainerFailed."""
        return run([*self._start, *map(str, arguments)])


def run(argv: list[str], env: dict[str, str] | None = None) -> str:
    """Standard output of a program; ContainerFailed when it fails."""
    done = subprocess.run(argv, capture_output=True, timeout=_LIMIT_S, check=False, env=env, text=True)
    if done.returncode:
        raise ContainerFailed(f"{' '.join(argv[:12])}: exit {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout.strip()


def _build_and_run(buildah: Buildah, archive: Path, wheels: Path) -> None:
    if shutil.which("hadolint"):
        run(["hadolint", str(ROOT / "Dockerfile")])
        print("ok: hadolint has nothing to say")
    base = buildah("from", "scratch")
    buildah("add", base, archive, "/")
    buildah("commit", "--rm", base, "localhost/base")
    context = _context(buildah.directory / "context", wheels)
    arguments = ["--build-arg", "BASE=localhost/base", "--build-arg", "PIP_NO_INDEX=1"]
    buildah("build", "--isolation", "chroot", "--format", "docker", *arguments, "--tag", "localhost/node", context)
    config = json.loads(buildah("inspect", "--type", "image", "localhost/node"))["Docker"]["config"]
    if config["User"] != USER or config["Volumes"] != {"/var/cache/cacheserver": {}}:
        raise ContainerFailed(f"user {config['User']}, volumes {config['Volumes']}")
    container = buildah("from", "localhost/node")
    place = Path(buildah("mount", container))
    own_bytes = sum(file.lstat().st_size for file in (place / "opt/cacheserver").rglob("*") if not file.is_dir())
    if list(place.glob("opt/cacheserver/lib/python3*/site-packages/pip")) or (place / "src").exists():
        raise ContainerFailed("the image holds pip or sources")
    print(f"ok: built; {own_bytes / 1e6:.0f} MB on top of its base, user {config['User']}, no pip")
    for line in _run(buildah.directory, place, config).splitlines():
        print(f"ok: {line}")


def _context(place: Path, wheels: Path) -> Path:
    """What a checkout would send, and the wheels."""
    place.mkdir()
    for name in CONTEXT:
        shutil.copyfile(ROOT / name, place / name)
    (place / "config").mkdir()
    shutil.copyfile(ROOT / "config/cacheserver.toml", place / "config/cacheserver.toml")
    shutil.copytree(ROOT / "cacheserver", place / "cacheserver", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(wheels, place / "wheels")
    return place


def _run(directory: Path, root: Path, config: dict[str, Any]) -> str:
    """The image's own command, environment, user and health check, in namespaces of their own."""
    work = directory / "work"
    work.mkdir()
    (work / "environment").write_text("".join(f"{entry}\n" for entry in config["Env"]))
    (work / "health").write_text("".join(f"{word}\n" for word in config["Healthcheck"]["Test"][1:]))
    (work / "command").write_text("".join(f"{word}\n" for word in config["Entrypoint"] + config["Cmd"]))
    env = {"PATH": os.environ.get("PATH", os.defpath), "ROOT": str(root), "WORK": str(work), "USER": config["User"]}
    return run(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "bash", RUN], env)


if __name__ == "__main__":
    sys.exit(main())
