"""The policy that points clients at nodes, independent of the tool that carries it.

Owns: which hosts a client may be given, names and types of the policy's values, and the remarks that belong to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cacheserver.core.errors import ConfigError, MalformedRequest
from cacheserver.core.request.hostname import parse_authority
from cacheserver.core.shown import shown

KEY: Final = r"SOFTWARE\Policies\Microsoft\Windows\DeliveryOptimization"
"""Registry key of the policy, below HKEY_LOCAL_MACHINE."""
OMA_URI: Final = "./Vendor/MSFT/Policy/Config/DeliveryOptimization"
"""The same for MDM."""
HOST_OPTION: Final = 235
"""DHCP option with the list of cache hosts."""
_OPTION_LIMIT_BYTES: Final = 255
DEFAULT_FOREGROUND_S: Final = 30
DEFAULT_BACKGROUND_S: Final = 60


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """What clients are told; ``hosts`` come from ``cache_hosts``."""

    hosts: tuple[str, ...]
    fallback_foreground_s: int = DEFAULT_FOREGROUND_S
    """Seconds before a download that someone waits for goes to the CDN instead."""
    fallback_background_s: int = DEFAULT_BACKGROUND_S
    from_dhcp: bool = False
    """Clients take the hosts from DHCP option 235 and not from the policy."""
    not_on_vpn: bool = False
    """Clients on VPN go to the CDN."""
    download_mode: int | None = None
    """``DODownloadMode``; None leaves it alone."""
    tls: bool = False
    """The node serves https too."""

    @property
    def host_list(self) -> str:
        """The hosts as clients read them."""
        return ",".join(self.hosts)

    def values(self) -> tuple[tuple[str, str | int], ...]:
        """Names and values of the policy, in a fixed order."""
        pairs: list[tuple[str, str | int]] = []
        pairs.append(("DOCacheHostSource", 1) if self.from_dhcp else ("DOCacheHost", self.host_list))
        pairs.append(("DODelayCacheServerFallbackForeground", self.fallback_foreground_s))
        pairs.append(("DODelayCacheServerFallbackBackground", self.fallback_background_s))
        if self.not_on_vpn:
            pairs.append(("DODisallowCacheServerDownloadsOnVPN", 1))
        if self.download_mode is not None:
            pairs.append(("DODownloadMode", self.download_mode))
        return tuple(pairs)

    def refuse_unless_carried(self, *, hosts_only: bool) -> None:
        """ConfigError for what a format that carries no policy cannot say: the delays too, if it has ``hosts_only``."""
        lost = {"--not-on-vpn": self.not_on_vpn, "--download-mode": self.download_mode is not None}
        if hosts_only:
            lost["--fallback-foreground"] = self.fallback_foreground_s != DEFAULT_FOREGROUND_S
            lost["--fallback-background"] = self.fallback_background_s != DEFAULT_BACKGROUND_S
        for option, is_set in lost.items():
            if is_set:
                raise ConfigError("this format cannot carry it; use a policy format beside it", key=option)

    def remarks(self, mark: str = "", *, dhcp: bool = False) -> list[str]:
        """What the reader must know besides, each after a comment ``mark``; ``dhcp``: of an option, not of a policy."""
        lines = []
        if dhcp:
            lines.append(f"Clients read option {HOST_OPTION} only where the policy sets DOCacheHostSource to 1.")
        if any(":" in host for host in self.hosts):
            lines.append("Clients ask on port 80, or 443 for https; try whether yours take another port.")
        if self.tls:
            lines.append("Over https clients ask port 443: the certificate must name every host above, and be trusted.")
        return [f"{mark} {line}" for line in lines] if mark else lines


def cache_hosts(hosts: tuple[str, ...], *, port: int = 80) -> tuple[str, ...]:
    """Host names and IPv4 addresses as clients take them, each with ``port`` where that is not 80.

    A host may bring a port of its own. Raises ConfigError for anything else, for hosts named twice, and for a list
    that does not fit into a DHCP option.
    """
    found: list[str] = []
    for text in hosts:
        try:
            authority = parse_authority(text.strip())
        except MalformedRequest as exc:
            raise ConfigError(f"{shown(text)!r}: {exc}", key="--host") from exc
        if authority.host.startswith("["):
            raise ConfigError(f"{shown(text)!r}: clients take names and IPv4 addresses only", key="--host")
        number = authority.port or port
        found.append(authority.host if number == 80 else f"{authority.host}:{number}")
    if len(set(found)) != len(found):
        raise ConfigError("a host is named twice", key="--host")
    if len(",".join(found)) > _OPTION_LIMIT_BYTES:
        raise ConfigError(f"the list of hosts is longer than {_OPTION_LIMIT_BYTES} bytes", key="--host")
    return tuple(found)
