"""How TCP sends in a bench: as the machine is set, or by a named congestion control in a network of the bench's own.

A congestion control that paces (``bbr``) spreads what it sends by timers, on loopback too. Rates then say as much about
timers as about servers, so that a report names the congestion control and one can be chosen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SETTING = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_INSIDE = "CACHESERVER_BENCH_NETWORK"


def congestion_control() -> str:
    """The one of new connections here; empty where the kernel does not say."""
    try:
        return _SETTING.read_text().strip()
    except OSError:
        return ""


def enter_own_network(congestion: str, arguments: Sequence[str]) -> None:
    """Go on as the same command in a network namespace that has a loopback and this congestion control.

    Returns there; the process here becomes that one. Raises OSError where one may not be made or set: it needs root,
    ``unshare`` and ``ip``, and only what the kernel offers to namespaces can be set (``reno`` always).
    """
    if os.environ.get(_INSIDE) != congestion:
        again = ("unshare", "--net", sys.executable, "-m", "bench", *arguments)
        os.execvpe(again[0], again, {**os.environ, _INSIDE: congestion})
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    _SETTING.write_text(congestion)
