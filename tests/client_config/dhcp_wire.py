"""One DHCP server and one client on a pair of virtual interfaces: prints option 235 of the offer as it came.

Runs as root in a network namespace of its own (``unshare --net``), as a program: ``dhcp_wire.py SERVER DIRECTORY``,
where the directory holds the server's configuration.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

MAC = bytes.fromhex("02005e100001")
_PATIENCE_S = 15.0
_OPTION = 235


def commands(server: str, folder: Path) -> list[str]:
    """How ``server`` is started in the foreground."""
    if server.endswith("dnsmasq"):
        return [
            *(server, "--keep-in-foreground", "--port=0", "--no-ping", "--interface=server0", "--bind-interfaces"),
            "--user=root",
            *("--dhcp-range=192.0.2.50,192.0.2.60", f"--dhcp-leasefile={folder / 'leases'}", "--pid-file="),
            f"--conf-file={folder / 'server.conf'}",
        ]
    if server.endswith("kea-dhcp4"):
        return [server, "-c", str(folder / "server.conf")]
    (folder / "leases").touch()
    files = ["-cf", str(folder / "server.conf"), "-lf", str(folder / "leases"), "-pf", str(folder / "pid")]
    return [server, "-f", "-4", *files, "server0"]


def discover() -> bytes:
    """A broadcast DHCPDISCOVER in an Ethernet frame (RFC 2131), which asks for the option."""
    options = bytes((53, 1, 1, 55, 2, 1, _OPTION, 255))
    bootp = struct.pack("!BBBBIHH16x16s64x128xI", 1, 1, 6, 0, 0x1234, 0, 0x8000, MAC.ljust(16, b"\0"), 0x63825363)
    udp_data = (bootp + options).ljust(300, b"\0")
    udp = struct.pack("!HHHH", 68, 67, 8 + len(udp_data), 0) + udp_data
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return b"\xff" * 6 + MAC + b"\x08\x00" + head + udp


def option_of(frame: bytes) -> bytes | None:
    """The option's bytes in an offer, None where the frame is none."""
    at = 14 + (frame[14] & 15) * 4 + 8 if len(frame) > 300 else 0
    if not at or frame[23] != 17 or struct.unpack("!H", frame[at - 6 : at - 4])[0] != 68:
        return None
    options = frame[at + 240 :]
    while options and options[0] != 255:
        if options[0] == 0:
            options = options[1:]
            continue
        code, length = options[0], options[1]
        if code == _OPTION:
            return options[2 : 2 + length]
        options = options[2 + length :]
    return b"the offer does not carry it"


def offered() -> bytes:
    """Ask until an offer comes."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as wire:
        wire.bind(("client0", 0))
        wire.settimeout(0.5)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            wire.send(discover())
            try:
                while time.monotonic() < deadline:
                    frame = wire.recv(65_536)
                    if (found := option_of(frame)) is not None:
                        return found
            except TimeoutError:
                continue
    return b"no offer came"


def main(server: str, folder: Path) -> None:
    """Wire two interfaces together, run the server, print what it offers."""
    for command in (
        "link set lo up",
        "link add server0 type veth peer name client0",
        f"link set client0 address {MAC.hex(':')}",
        "addr add 192.0.2.1/24 dev server0",
        "link set server0 up",
        "link set client0 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    with (folder / "server.log").open("wb") as log:
        env = {**os.environ, "KEA_PIDFILE_DIR": str(folder), "KEA_LOCKFILE_DIR": "none"}
        process = subprocess.Popen(commands(server, folder), stdout=log, stderr=log, env=env)
        try:
            print(offered().decode("latin-1"))
        finally:
            process.terminate()
            process.wait(10)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
