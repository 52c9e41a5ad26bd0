"""Every format by its name on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from cacheserver.client_config import dhcp, windows
from cacheserver.client_config.policy import ClientPolicy


def linux_agent(policy: ClientPolicy) -> str:
    """``/etc/deliveryoptimization-agent/admin-config.json`` of the Linux agent, which knows the host list only."""
    return json.dumps({"DOCacheHost": policy.host_list}) + "\n"


POLICY_FORMATS: Final[dict[str, Callable[[ClientPolicy], str]]] = {
    "reg": windows.reg,
    "gpo": windows.gpo,
    "intune": windows.intune,
    "powershell": windows.powershell,
}
"""Formats that carry the whole policy."""

FORMATS: Final[dict[str, Callable[[ClientPolicy], str]]] = {
    **POLICY_FORMATS,
    "dhcp-isc": dhcp.isc,
    "dhcp-kea": dhcp.kea,
    "dhcp-windows": dhcp.windows,
    "dnsmasq": dhcp.dnsmasq,
    "linux-agent": linux_agent,
}
