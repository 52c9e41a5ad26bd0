"""DHCP option 235 for servers: ISC, Kea, Windows, dnsmasq. The option's bytes are the host list in ASCII."""

from __future__ import annotations

import json

from cacheserver.client_config.policy import HOST_OPTION, ClientPolicy

_NAME = "do-cache-host"


def isc(policy: ClientPolicy) -> str:
    """Lines for ``dhcpd.conf``."""
    lines = [*(f"# {remark}" for remark in policy.remarks(dhcp=True))]
    lines.append(f"option {_NAME} code {HOST_OPTION} = text;")
    lines.append(f'option {_NAME} "{policy.host_list}";')
    return "\n".join((*lines, ""))


def kea(policy: ClientPolicy) -> str:
    """Members for the ``Dhcp4`` object of ``kea-dhcp4.conf``; Kea reads remarks in it."""
    definition = {"name": _NAME, "code": HOST_OPTION, "type": "string", "space": "dhcp4"}
    # A comma ends a value in Kea's notation unless a backslash stands before it.
    option = {"name": _NAME, "space": "dhcp4", "data": policy.host_list.replace(",", "\\,")}
    body = json.dumps({"Dhcp4": {"option-def": [definition], "option-data": [option]}}, indent=2)
    return "\n".join((*(f"// {remark}" for remark in policy.remarks(dhcp=True)), body, ""))


def windows(policy: ClientPolicy) -> str:
    """PowerShell for a Windows DHCP server, for all of its scopes."""
    lines = ["#Requires -Modules DhcpServer", *(f"# {remark}" for remark in policy.remarks(dhcp=True))]
    lines.append(
        f"if (-not (Get-DhcpServerv4OptionDefinition -OptionId {HOST_OPTION} -ErrorAction SilentlyContinue)) {{"
    )
    lines.append(f"    Add-DhcpServerv4OptionDefinition -OptionId {HOST_OPTION} -Name 'DOCacheHost' -Type String")
    lines.append("}")
    lines.append(f"Set-DhcpServerv4OptionValue -OptionId {HOST_OPTION} -Value '{policy.host_list}'")
    return "\r\n".join((*lines, ""))


def dnsmasq(policy: ClientPolicy) -> str:
    """Lines for ``dnsmasq.conf``; the quotes keep an address from being sent as four bytes."""
    remarks = (f"# {remark}" for remark in policy.remarks(dhcp=True))
    return "\n".join((*remarks, f'dhcp-option={HOST_OPTION},"{policy.host_list}"', ""))
