"""A thin line between two network namespaces: a rate, a delay and a queue, in user space.

Owns: two TUN devices, one in each namespace, and a process that carries packets between them: first in, first out, or
one packet of each flow in turn. Both directions have the same rate. Needs root. A process of its own:
``python -m bench.line --fds 5,6 --mbps 1`` carries until it is ended.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import time
from collections import OrderedDict, deque
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import process

SITE, FAR = "10.9.0.1", "10.9.0.2"
QUEUES = ("fifo", "fair")
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x0001 | 0x1000
_QUEUE_S, _QUEUE_BYTES = 0.3, 64 << 10
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter(namespace: int) -> None:
    """Have this thread be in a network namespace; what it starts is there too."""
    _checked(_libc.setns(namespace, _CLONE_NEWNET))


def _new_namespace(address: str) -> tuple[int, int]:
    """Enter a new namespace with a TUN device: descriptors of both."""
    _checked(_libc.unshare(_CLONE_NEWNET))
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"line0", _IFF_TUN_NO_PI))
    for words in ("link set lo up", f"addr add {address}/24 dev line0", "link set line0 mtu 1500 up"):
        subprocess.run(("ip", *words.split()), check=True)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY), tun


class ThinLine:
    """A context: two namespaces and the line between them; this thread is in the site's until it ends."""

    def __init__(self, *, mbps: float, delay_ms: float, queue: str, log: Path) -> None:
        self._words = ["--mbps", str(mbps), "--delay-ms", str(delay_ms), "--queue", queue]
        self._log = log

    def __enter__(self) -> Self:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.far, far_tun = _new_namespace(FAR)
        self.site, site_tun = _new_namespace(SITE)
        argv = [sys.executable, "-m", "bench.line", "--fds", f"{site_tun},{far_tun}", *self._words]
        with self._log.open("ab") as out:
            self._carrier = subprocess.Popen(argv, pass_fds=(site_tun, far_tun), stdout=out, stderr=out)
        os.close(site_tun)
        os.close(far_tun)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        enter(self._home)
        self._carrier.terminate()
        self._carrier.wait(process.STOP_TIMEOUT_S)
        for fd in (self._home, self.far, self.site):
            os.close(fd)


class Direction:
    """Packets that wait for one direction of the line, and those that are on it."""

    def __init__(self, out: int, *, bytes_per_s: float, delay_s: float, fair: bool) -> None:
        self._out = out
        self._bytes_per_s = bytes_per_s
        self._delay_s = delay_s
        self._fair = fair
        self._limit = max(_QUEUE_BYTES, int(bytes_per_s * _QUEUE_S))
        self._flows: OrderedDict[bytes, deque[bytes]] = OrderedDict()
        self._queued = 0
        self._free_s = 0.0
        self._under_way: list[tuple[float, int, bytes]] = []
        self._numbers = count()

    def take(self, packet: bytes) -> None:
        """A packet comes; it is dropped where the queue is full, of the longest flow where flows are told apart."""
        flow = packet[12:24] if self._fair else b""  # addresses and ports of an IPv4 packet without options
        self._flows.setdefault(flow, deque()).append(packet)
        self._queued += len(packet)
        while self._queued > self._limit:
            longest = max(self._flows, key=lambda name: len(self._flows[name]))
            self._queued -= len(self._flows[longest].pop())
            if not self._flows[longest]:
                del self._flows[longest]

    def carry(self, now_s: float) -> float:
        """Send what is due; when there is something to do again."""
        while self._flows and self._free_s <= now_s:
            flow, packets = self._flows.popitem(last=False)
            packet = packets.popleft()
            if packets:
                self._flows[flow] = packets
            self._queued -= len(packet)
            self._free_s = max(self._free_s, now_s - 0.01) + len(packet) / self._bytes_per_s
            heapq.heappush(self._under_way, (self._free_s + self._delay_s, next(self._numbers), packet))
        while self._under_way and self._under_way[0][0] <= now_s:
            os.write(self._out, heapq.heappop(self._under_way)[2])
        due = self._under_way[0][0] if self._under_way else float("inf")
        return min(due, self._free_s) if self._flows else due


def carry(site: int, far: int, *, mbps: float, delay_ms: float, queue: str) -> None:
    """Carry packets for ever; half of the delay in each direction."""
    how = {"bytes_per_s": mbps * 1e6 / 8, "delay_s": delay_ms / 2000}
    ways = {site: Direction(far, fair=queue == "fair", **how), far: Direction(site, fair=queue == "fair", **how)}
    while True:
        now_s = time.monotonic()
        due_s = min(way.carry(now_s) for way in ways.values())
        ready, _, _ = select.select(list(ways), (), (), max(0.0, min(1.0, due_s - time.monotonic())))
        for tun in ready:
            ways[tun].take(os.read(tun, 2048))


def main(argv: list[str]) -> None:
    """Parse the command line and carry."""
    parser = argparse.ArgumentParser(prog="python -m bench.line", description=__doc__)
    parser.add_argument("--fds", required=True, help="descriptors of the two TUN devices")
    parser.add_argument("--mbps", type=float, required=True, help="rate, 10^6 bit/s")
    parser.add_argument("--delay-ms", type=float, default=40.0, help="round trip on an idle line")
    parser.add_argument("--queue", choices=QUEUES, default="fifo")
    options = parser.parse_args(argv)
    site, far = (int(fd) for fd in options.fds.split(","))
    carry(site, far, mbps=options.mbps, delay_ms=options.delay_ms, queue=options.queue)


if __name__ == "__main__":
    main(sys.argv[1:])
