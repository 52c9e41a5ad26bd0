"""A machine for the commands of a page: own network, own /etc and /var, the commands in the path, an origin.

Owns the namespaces and the shell that runs all blocks of a page one after the other. Must not know any page. Nothing
outside the lab's folder is changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.docs.blocks import ROOT, Block

_NAMESPACES: Final = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_LIMIT_S: Final = 240.0
HOSTS: Final = ("cache.example.com", "cache.corp.example")
ORIGINS: Final = ("au.download.windowsupdate.com", "dl.delivery.mp.microsoft.com", "download.windowsupdate.com")
COMMAND: Final = """\
import encodings.utf_8_sig, sys  # late imports that another user may not be able to make in the interpreter of tests
from cacheserver.cli.main import main
from cacheserver.settings.shipped import load_shipped_services
load_shipped_services()
main()
"""
PRELUDE: Final = """\
set -um
ip link set lo up
cp -a /etc "$LAB/etc"
printf '127.0.0.1 localhost %s\\n' "$LAB_HOSTS" >"$LAB/etc/hosts"
echo 'cacheserver:x:64321:64321::/var/cache/cacheserver:/usr/sbin/nologin' >>"$LAB/etc/passwd"
echo 'cacheserver:x:64321:' >>"$LAB/etc/group"
mount --bind "$LAB/etc" /etc
mount -t tmpfs -o mode=755 lab /var
mkdir -p /etc/cacheserver /var/cache /var/log/cacheserver /var/lab
cp -a "$LAB_ROOT/cacheserver" /var/lab  # where every user can read it
cd "$LAB/checkout"
until_ready() { for _ in $(seq 300); do cacheserver health --ready >/dev/null 2>&1 && return; sleep 0.1; done; false; }
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """One block after its run."""

    block: Block
    exit_code: int
    output: str


@cache
def why_no_lab() -> str:
    """Why there can be none here; empty where there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    tried = subprocess.run((*_NAMESPACES, "ip", "link", "set", "lo", "up"), capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


def run_blocks(folder: Path, setup: str, blocks: Sequence[Block], before: dict[str, str]) -> list[Ran]:
    """Run ``setup``, then each block; ``before`` has what happens before a block that holds its key.

    AssertionError where the setup fails, or where the shell does not reach the last block.
    """
    _furnish(folder)
    script = [PRELUDE, "set -eE -o pipefail", setup, "set +e"]
    for number, block in enumerate(blocks):
        script += [text for part, text in before.items() if part in block.text]
        script += ["failed=0; trap 'failed=$?' ERR", "{", block.text, f'}} >"$LAB/out{number}" 2>&1 </dev/null']
        script += [f'trap - ERR; echo $failed >"$LAB/exit{number}"']
    (folder / "script").write_text("\n".join(script), encoding="utf-8")
    environment = {
        "PATH": f"{folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder / "home"),
        "LAB": str(folder),
        "LAB_ROOT": str(ROOT),
        "LAB_HOSTS": " ".join(HOSTS),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (folder / "log").open("wb") as log:
        command = (*_NAMESPACES, "bash", str(folder / "script"))
        subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=_LIMIT_S, check=False)
    ran = [number for number in range(len(blocks)) if (folder / f"exit{number}").exists()]
    assert len(ran) == len(blocks), (folder / "log").read_text(errors="replace")[-3000:]
    return [_ran(folder, number, block) for number, block in enumerate(blocks)]


def _ran(folder: Path, number: int, block: Block) -> Ran:
    output = (folder / f"out{number}").read_text(errors="replace")
    return Ran(block, int((folder / f"exit{number}").read_text()), output)


def _furnish(folder: Path) -> None:
    """The checkout that the pages speak of, and the programs that a lab has in place of a machine's."""
    for name in ("bin", "checkout", "home"):
        (folder / name).mkdir()
    for name in ("Makefile", "cacheserver", "tools"):
        (folder / "checkout" / name).symlink_to(ROOT / name)
    (folder / "checkout" / ".venv" / "bin").mkdir(parents=True)
    node = f'PYTHONPATH=/var/lab exec {sys.executable} -P -c "$LAB_COMMAND" "$@"'
    programs = {
        "bin/cacheserver": f"export LAB_COMMAND='{COMMAND}'\n{node}",
        "bin/journalctl": "cat /var/log/cacheserver/access.log.1",
        # The installed environment is that of the tests: nothing is to be made before a target.
        "bin/make": 'case $1 in install) ;; *) exec /usr/bin/make -o install "$@" ;; esac',
        "checkout/.venv/bin/cacheserver": 'exec cacheserver "$@"',
        "checkout/.venv/bin/python": f'exec {sys.executable} "$@"',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
