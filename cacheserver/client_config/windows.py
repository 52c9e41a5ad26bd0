"""The policy for Windows: registry file, Group Policy, Intune, PowerShell."""

from __future__ import annotations

import json

from cacheserver.client_config.policy import KEY, OMA_URI, ClientPolicy

_TITLE = "Delivery Optimization cache host"


def reg(policy: ClientPolicy) -> str:
    """A registry file (``reg import``); lines end in CR LF."""
    lines = ["Windows Registry Editor Version 5.00", ""]
    lines += [f"; {remark}" for remark in policy.remarks()]
    lines.append(f"[HKEY_LOCAL_MACHINE\\{KEY}]")
    for name, value in policy.values():
        lines.append(f'"{name}"="{value}"' if isinstance(value, str) else f'"{name}"=dword:{value:08x}')
    return "\r\n".join((*lines, "", ""))


def gpo(policy: ClientPolicy) -> str:
    """Local-policy text as ``LGPO.exe /t`` applies it; ``LGPO.exe /r FILE /w registry.pol`` makes a policy file of it.

    Four lines a value: configuration, key, name, type and value.
    """
    lines = ["; LGPO.exe /t FILE", *(f"; {remark}" for remark in policy.remarks()), ""]
    for name, value in policy.values():
        typed = f"SZ:{value}" if isinstance(value, str) else f"DWORD:{value}"
        lines += ["Computer", KEY, name, typed, ""]
    return "\r\n".join((*lines, ""))


def intune(policy: ClientPolicy) -> str:
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


def powershell(policy: ClientPolicy) -> str:
    """A script that sets the policy on the machine where an administrator runs it."""
    lines = ["#Requires -RunAsAdministrator", *(f"# {remark}" for remark in policy.remarks())]
    lines += ["$ErrorActionPreference = 'Stop'", f"$key = 'HKLM:\\{KEY}'"]
    lines.append("if (-not (Test-Path $key)) { New-Item -Path $key -Force | Out-Null }")
    for name, value in policy.values():
        kind, text = ("String", f"'{value}'") if isinstance(value, str) else ("DWord", str(value))
        lines.append(f"New-ItemProperty -Path $key -Name '{name}' -PropertyType {kind} -Value {text} -Force | Out-Null")
    lines.append("Restart-Service -Name DoSvc")
    return "\r\n".join((*lines, ""))
