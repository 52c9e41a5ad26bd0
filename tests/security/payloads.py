"""Spellings of hosts that a client may try in order to lead the node off its allow-list.

Owns the list. Every entry is meant to be refused; what is merely another spelling of an allowed host is not in it.
"""

from __future__ import annotations

from urllib.parse import quote

SPECIAL = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.1.2.3",
    "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.8",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "100::1", "100:0:0:1::1", "2001::1", "2001:0:7f00:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
    "2002:7f00:1::1", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1",
    "ff02::1",
)  # fmt: skip
"""One address or more of every block that is not the public Internet, metadata services among them."""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def hosts(allowed: str, victim_port: int) -> list[str]:
    """Host spellings off the list, made of ``allowed`` and of a listener on loopback that must never be reached."""
    zone = allowed.partition(".")[2]
    first = allowed.partition(".")[0]
    return [
        # beside the name: longer, shorter, a label more, a label less
        f"{allowed}.evil.example", f"evil-{allowed}", f"evil{allowed}", f"x.{allowed}", zone, f"{allowed}x",
        f"{first}-{zone}", f"{first}.evil.{zone}", f"{allowed}.{allowed}", f"{first}.{zone}.127.0.0.1.example",
        "*", f"*.{zone}", f"*{zone}", "com", "example", "localhost", "localhost.localdomain", "localhost.",
        "ip6-localhost", "metadata.internal", "metadata", "instance-data", "kubernetes.default.svc", "wpad",
        "127.0.0.1.rebind.example", "169.254.169.254.rebind.example", "7f000001.rebind.example",
        # dots, labels, lengths
        f".{allowed}", f"{allowed}..", f"{first}..{zone}", "..", ".", "a" * 64 + f".{zone}", "a." * 130 + zone,
        f"-{allowed}", f"{first}-.{zone}", f"_{allowed}",
        # user information, ports, paths inside the authority
        f"{allowed}@127.0.0.1", f"user:pass@{allowed}", f"@{allowed}", f"127.0.0.1@{allowed}", f"{allowed}:22",
        f"{allowed}:0", f"{allowed}:65536", f"{allowed}:+80", f"{allowed}:0x50", f"{allowed}:8e1", f"{allowed}:-1",
        f"{allowed}:80:80", f"{allowed}:80@127.0.0.1:{victim_port}", f"127.0.0.1:{victim_port}",
        f"localhost:{victim_port}", f"127.0.0.1:{victim_port}#{allowed}", f"127.0.0.1:{victim_port}\\@{allowed}",
        f"127.0.0.1:{victim_port}/{allowed}", f"127.0.0.1:{victim_port}?{allowed}", f"{allowed}\\.evil.example",
        f"{allowed}#.evil.example", f"{allowed}/.evil.example", f"{allowed}?.evil.example", f"{allowed};127.0.0.1",
        f"{allowed},127.0.0.1", f"{allowed} 127.0.0.1", f"{allowed}\t", f" {allowed}.evil.example", f"{allowed}|x",
        # spellings of addresses that some resolver understands
        "2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f.1",
        "127.0.0.01", "127.000.000.001", "127.0.0.1.", "0", "0x0", "00", "1.1.1.1.1", "256.256.256.256", "127.0.0",
        "3232235777", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "0x7F.0X0.0.0x1",
        "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
        "[0000::0001]", "[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "[::1", "::1]", "::1", "[::1].evil.example",
        "[127.0.0.1]", "[v1.127.0.0.1]", f"[{allowed}]", f"[::1]:{victim_port}", f"[::1]:{victim_port}@{allowed}",
        # IDNA and look-alikes: full-width dots and letters, circled digits, a soft hyphen, a joiner, Kelvin, long s
        allowed.replace(".", "\u3002"), allowed.replace(".", "\uff0e"), allowed.replace(".", "\uff61"),
        allowed.replace("c", "\uff43", 1), allowed.replace("e", "\u0435", 1), allowed.replace("s", "\u017f", 1),
        allowed.replace("d", "\u00ad" + "d", 1), allowed.replace("n", "n\u200d", 1), "\u2460\u2461\u2466.0.0.1",
        "\uff11\uff12\uff17.0.0.1", f"xn--{allowed}", f"xn--cdn-9u5a.{zone}", "xn--a", "loc\u212alhost",
        # encodings that must not be taken off twice, control characters
        "%2531%2532%2537.0.0.1", f"{allowed}%00.evil.example", f"{allowed}%2eevil.example", "%6c%6f%63alhost",
        f"{allowed}%0d%0aHost:%20127.0.0.1", f"{allowed}%20", f"{allowed}%2f@127.0.0.1", f"{allowed}%40127.0.0.1",
        f"{allowed}%3a22", "%31%32%37.0.0.1", f"{allowed}\x00", f"\x7f{allowed}", f"{allowed}\x0b",
        *map(_bracketed, SPECIAL),
    ]  # fmt: skip


def requests(allowed: str, victim_port: int) -> list[tuple[str, bytes]]:
    """Whole request heads by the name of their form, for every host of ``hosts``."""
    made: list[tuple[str, bytes]] = []
    for number, host in enumerate(hosts(allowed, victim_port)):
        raw = host.encode("utf-8")
        path = b"/ssrf/%d" % number
        escaped = quote(host, safe="").encode()
        line = raw.translate(None, b" \t\x00\x0b\x7f")
        made += [
            ("cacheHostOrigin", _head(path + b"?cacheHostOrigin=" + escaped, b"node.example")),
            ("Host", _head(path, raw)),
        ]
        if line != raw and line == allowed.encode():
            continue  # a request line cannot hold what made it another host
        made += [
            ("cacheHostOrigin, bare", _head(path + b"?cacheHostOrigin=" + line, b"node.example")),
            ("cacheHostOrigin, last", _head(path + b"?cacheHostOrigin=%s&cacheHostOrigin=%s" % (allowed.encode(), line),
                                            allowed.encode())),
        ]  # fmt: skip
        if line.startswith((allowed.encode() + b"/", allowed.encode() + b"?")):
            continue  # there an authority ends at these
        made += [
            ("absolute form", _head(b"http://%s%s" % (line, path), allowed.encode())),
            ("absolute form, https", _head(b"https://%s%s" % (line, path), allowed.encode())),
        ]
    made += [("two names", head) for head in _contradictions(allowed.encode(), victim_port)]
    return made


def locations(allowed: str, victim_port: int) -> list[str]:
    """Values of Location that lead off the list."""
    victim = f"127.0.0.1:{victim_port}"
    urls = [f"http://{host}/x" for host in hosts(allowed, victim_port) if _printable(host)]
    urls += [f"//{_bracketed(address)}/x" for address in SPECIAL]
    urls += [
        f"HTTP://{victim}/", f"https://{victim}/", f"ftp://{victim}/", "file:///etc/passwd", f"gopher://{victim}/_x",
        f"ws://{victim}/", "data:text/plain,x", "javascript:x", f"http:{victim}", f"http:/{victim}/",
        f"http:///{victim}/", f"http:\\\\{victim}\\", f"/\\{victim}/x", f"\\\\{victim}\\x", f"////{victim}/x",
        f"/x?cacheHostOrigin={victim}", "/x?cacheHostOrigin=127.0.0.1", "?cacheHostOrigin=[::1]",
        f"http://{allowed}/x?cacheHostOrigin=127.0.0.1", f"http://{allowed}:{victim_port}/x", f"\thttp://{victim}/",
        "unix:///run/x.sock:/x", "http+unix://%2Frun%2Fx.sock/x", f"http://{allowed}\\@{victim}/",
    ]  # fmt: skip
    return urls


def _printable(host: str) -> bool:
    return host.isascii() and host.isprintable() and " " not in host


def _head(target: bytes, host: bytes) -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host)


def _contradictions(allowed: bytes, victim_port: int) -> list[bytes]:
    victim = b"127.0.0.1:%d" % victim_port
    return [
        b"GET /x HTTP/1.1\r\nHost: %s\r\nHost: %s\r\n\r\n" % (allowed, victim),
        b"GET /x HTTP/1.1\r\nHost: %s\r\nHost: %s\r\n\r\n" % (victim, allowed),
        b"GET http://%s/x HTTP/1.1\r\nHost: %s\r\n\r\n" % (victim, allowed),
        b"GET http://%s/x?cacheHostOrigin=%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (allowed, victim, allowed),
        b"GET /x?cacheHostOrigin=%s&a=%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (victim, allowed, allowed),
        b"GET /x?cacheHostOrigin= HTTP/1.1\r\nHost: %s\r\n\r\n" % allowed,
        b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (victim, allowed),
        b"GET //%s/x HTTP/1.1\r\nHost: %s\r\n\r\n" % (victim, victim),
        b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (victim, victim),
        b"OPTIONS * HTTP/1.1\r\nHost: %s\r\n\r\n" % victim,
        b"GET /x HTTP/1.1\r\nX-Forwarded-Host: %s\r\nForwarded: host=%s\r\nHost: %s\r\n\r\n"
        % (allowed, allowed, victim),
        b"GET /x HTTP/1.0\r\n\r\n",
    ]
