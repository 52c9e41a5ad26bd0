"""Every format by its name on the command line: the policy, or DHCP option 235, as text for the tool that carries it.

Owns: the syntax of each format. The bytes of the option are the host list in ASCII.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from cacheserver.client_config.policy import HOST_OPTION, KEY, OMA_URI, ClientPolicy
from cacheserver.core.errors import ConfigError

_TITLE = "Delivery Optimization cache host"
_OPTION_NAME = "do-cache-host"

# -- the whole policy, for Windows ------------------------------------------------------------------------------


def _reg(policy: ClientPolicy) -> str:
    """A registry file (``reg import``); lines end in CR LF."""
    lines = ["Windows Registry Editor Version 5.00", "", *policy.remarks(";"), f"[HKEY_LOCAL_MACHINE\\{KEY}]"]
    for name, value in policy.values():
        lines.append(f'"{name}"="{value}"' if isinstance(value, str) else f'"{name}"=dword:{value:08x}')
    return "\r\n".join((*lines, "", ""))


def _gpo(policy: ClientPolicy) -> str:
    """Local-policy text as ``LGPO.exe /t`` applies it; ``LGPO.exe /r FILE /w registry.pol`` makes a policy file of it.

    Four lines a value: configuration, key, name, type and value.
    """
    lines = ["; LGPO.exe /t FILE", *policy.remarks(";"), ""]
    for name, value in policy.values():
        typed = f"SZ:{value}" if isinstance(value, str) else f"DWORD:{value}"
        lines += ["Computer", KEY, name, typed, ""]
    return "\r\n".join((*lines, ""))


def _intune(policy: ClientPolicy) -> str:
    """A custom profile as JSON, to be posted to Microsoft Graph's ``deviceManagement/deviceConfigurations``."""
    settings = [
        {
            "@odata.type": f"#microsoft.graph.omaSetting{'String' if isinstance(value, str) else 'Integer'}",
            "displayName": name,
            "omaUri": f"{OMA_URI}/{name}",
            "value": value,
        }
        for name, value in policy.values()
    ]
    profile = {
        "@odata.type": "#microsoft.graph.windows10CustomConfiguration",
        "displayName": _TITLE,
        "description": " ".join(policy.remarks()),
        "omaSettings": settings,
    }
    return json.dumps(profile, indent=2) + "\n"


def _powershell(policy: ClientPolicy) -> str:
    """A script that sets the policy on the machine where an administrator runs it."""
    lines = ["#Requires -RunAsAdministrator", *policy.remarks("#")]
    lines += ["$ErrorActionPreference = 'Stop'", f"$key = 'HKLM:\\{KEY}'"]
    lines.append("if (-not (Test-Path $key)) { New-Item -Path $key -Force | Out-Null }")
    for name, value in policy.values():
        kind, text = ("String", f"'{value}'") if isinstance(value, str) else ("DWord", str(value))
        lines.append(f"New-ItemProperty -Path $key -Name '{name}' -PropertyType {kind} -Value {text} -Force | Out-Null")
    lines.append("Restart-Service -Name DoSvc")
    return "\r\n".join((*lines, ""))


# -- the option, for DHCP servers -------------------------------------------------------------------------------


def _option_remarks(policy: ClientPolicy, mark: str) -> list[str]:
    """The remarks of a format that carries the host list only. ConfigError for a policy with more in it."""
    policy.refuse_unless_carried(hosts_only=True)
    return policy.remarks(mark, dhcp=True)


def _dhcp_isc(policy: ClientPolicy) -> str:
    """Lines for ``dhcpd.conf``."""
    lines = [*_option_remarks(policy, "#"), f"option {_OPTION_NAME} code {HOST_OPTION} = text;"]
    return "\n".join((*lines, f'option {_OPTION_NAME} "{policy.host_list}";', ""))


def _dhcp_kea(policy: ClientPolicy) -> str:
    """Members for the ``Dhcp4`` object of ``kea-dhcp4.conf``; Kea reads remarks in it."""
    definition = {"name": _OPTION_NAME, "code": HOST_OPTION, "type": "string", "space": "dhcp4"}
    # A comma ends a value in Kea's notation unless a backslash stands before it.
    option = {"name": _OPTION_NAME, "space": "dhcp4", "data": policy.host_list.replace(",", "\\,")}
    body = json.dumps({"Dhcp4": {"option-def": [definition], "option-data": [option]}}, indent=2)
    return "\n".join((*_option_remarks(policy, "//"), body, ""))


def _dhcp_windows(policy: ClientPolicy) -> str:
    """PowerShell for a Windows DHCP server, for all of its scopes."""
    lines = ["#Requires -Modules DhcpServer", *_option_remarks(policy, "#")]
    lines.append(
        f"if (-not (Get-DhcpServerv4OptionDefinition -OptionId {HOST_OPTION} -ErrorAction SilentlyContinue)) {{"
    )
    lines.append(f"    Add-DhcpServerv4OptionDefinition -OptionId {HOST_OPTION} -Name 'DOCacheHost' -Type String")
    lines.append("}")
    lines.append(f"Set-DhcpServerv4OptionValue -OptionId {HOST_OPTION} -Value '{policy.host_list}'")
    return "\r\n".join((*lines, ""))


def _dnsmasq(policy: ClientPolicy) -> str:
    """Lines for ``dnsmasq.conf``; the quotes keep an address from being sent as four bytes."""
    return "\n".join((*_option_remarks(policy, "#"), f'dhcp-option={HOST_OPTION},"{policy.host_list}"', ""))


def _linux_agent(policy: ClientPolicy) -> str:
    """``/etc/deliveryoptimization-agent/admin-config.json`` of the Linux agent: one host, and the delays.

    ConfigError for several hosts: with a list the agent downloads nothing at all.
    """
    if len(policy.hosts) > 1:
        text = "the Linux agent takes one host; with several every download on the machine would fail"
        raise ConfigError(text, key="--host")
    policy.refuse_unless_carried(hosts_only=False)
    delays = {name: value for name, value in policy.values() if name.startswith("DODelay")}
    return json.dumps({"DOCacheHost": policy.host_list, **delays}) + "\n"


POLICY_FORMATS: Final[dict[str, Callable[[ClientPolicy], str]]] = {
    "reg": _reg,
    "gpo": _gpo,
    "intune": _intune,
    "powershell": _powershell,
}
"""Formats that carry the whole policy."""

FORMATS: Final[dict[str, Callable[[ClientPolicy], str]]] = {
    **POLICY_FORMATS,
    "dhcp-isc": _dhcp_isc,
    "dhcp-kea": _dhcp_kea,
    "dhcp-windows": _dhcp_windows,
    "dnsmasq": _dnsmasq,
    "linux-agent": _linux_agent,
}
