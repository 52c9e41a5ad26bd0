"""The doctor names each fault: a healthy lab with one thing wrong, and the line that must say so.

Each fault is an async context manager that spoils the lab (or the settings and options that the doctor gets) and puts
it right again; the table says which line must name it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from cacheserver.doctor.check import Check
from tests.doctor import faults_of_machine as machine
from tests.doctor import faults_of_network as network
from tests.doctor.faults_of_network import GIF
from tests.doctor.lab import Lab

pytestmark = pytest.mark.asyncio(loop_scope="module")
Spoil = Callable[[Lab, Path], AbstractAsyncContextManager[machine.Case]]

FAULTS: list[tuple[Spoil, str, str, str]] = [
    (machine.port_taken, "port", "fail", "port taken: held by"),
    (machine.node_down, "port", "fail", "the node is down"),
    (machine.node_down, "node", "fail", "the node is down: Connection refused"),
    (machine.node_down, "test-url", "fail", "Connection refused"),
    (network.admin_refuses, "node", "fail", "refuses the doctor"),
    (network.node_not_ready, "node", "fail", "is not ready: no volume is online"),
    (network.sources_banned, "node", "warn", "banned sources: http://bad.example:80"),
    (network.not_an_admin_listener, "node", "fail", "is not ready: answers 404"),
    (machine.few_descriptors, "descriptors", "fail", "400, enough for 0 clients"),
    (machine.directory_of_another_user, "disk-owner", "fail", "belongs to another user: 54321"),
    (machine.directory_without_permission, "disk-owner", "fail", "mode 0500"),
    (machine.disk_full, "disk-space", "fail", "the disk is full"),
    (machine.disk_read_only, "disk-space", "fail", "read-only"),
    (machine.disk_too_small, "disk-space", "warn", "less than max_size"),
    (machine.clock_a_year_off, "clock", "fail", "1 year and 3"),
    (machine.own_clock_an_hour_off, "clock", "fail", "ahead of"),
    (network.name_without_address, "dns", "fail", "files.nowhere.invalid cannot be resolved"),
    (network.private_address, "dns", "fail", "private addresses such as 127.0.0.1"),
    (network.connection_refused, "tcp", "fail", "dl.delivery.mp.microsoft.com: 127.0.0.1 port"),
    (network.connection_refused, "range", "fail", "Connection refused"),
    (network.peer_refuses, "peer", "fail", "Connection refused"),
    (network.loop, "loop", "fail", "download.windowsupdate.com lead back to this node"),
    (network.loop_through_another_address, "loop", "fail", "au.download.windowsupdate.com lead back to this node"),
    (network.proxy_in_environment, "proxy", "warn", "https_proxy=http://proxy.example:3128"),
    (network.range_ignored, "range", "fail", "Range is ignored"),
    (network.range_shifted, "range", "fail", "wrong range: Content-Range bytes 1-10/969710"),
    (network.portal_redirects, "portal", "fail", "a portal or filter answers: au.download.windowsupdate.com: 302"),
    (network.portal_asks_for_a_login, "portal", "fail", "200 text/html"),
    (network.origin_refuses, "range", "fail", "answers 403 to the test URL"),
    (network.origin_breaks_off, "range", "fail", "Server disconnected"),
    (network.tls_is_inspected, "endpoint", "fail", "certificate refused"),
    (network.certificate_expired, "certificate", "fail", "expired on"),
    (network.certificate_expires_soon, "certificate", "warn", "expires in 2 days"),
    (network.certificate_for_another_name, "names", "fail", "updates.example.com not among cache.example.com"),
    (network.certificate_not_taken_up, "handshake", "warn", "presents another certificate"),
    (network.key_of_another_certificate, "certificate", "fail", "it was issued for another key"),
    (network.certificate_not_trusted, "handshake", "fail", "not trusted as cache.example.com"),
    (network.wrong_length, "test-url", "fail", "wrong length: 969709 bytes and not 969710"),
    (network.wrong_type, "test-url", "fail", "Content-Type text/plain and not image/gif"),
    (network.node_by_a_name_that_its_certificate_lacks, "test-url", "fail", "certificate refused"),
    (network.listener_on_loopback_only, "addresses", "warn", "this machine only"),
]


@pytest.mark.parametrize(
    ("spoil", "name", "level", "found"), FAULTS, ids=[f"{row[0].__name__}-{row[1]}" for row in FAULTS]
)
async def test_fault_is_named(spoil: Spoil, name: str, level: str, found: str, lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    async with spoil(lab, tmp_path) as case:
        checks = await lab.diagnosed(case.settings, lab.options(**case.options), **case.run)
    fitting = [check for check in checks if check.name == name and check.level == level]
    assert any(found in check.found for check in fitting), shown(checks)
    assert all(check.advice for check in fitting if found in check.found), "every fault says what to do"
    assert "secret" not in shown(checks)
    own_failures = [check for check in checks if "ended by" in check.found]
    assert not own_failures, shown(own_failures)


async def test_lab_is_healthy_again_after_all_faults(lab: Lab) -> None:
    checks = await lab.diagnosed()
    # How fast a shared machine writes is not for this test to say.
    assert all(check.level == "ok" for check in checks if check.name != "disk-speed"), shown(checks)


async def test_checks_that_hang_end_by_their_deadline_and_say_so(lab: Lab) -> None:
    gate = lab.origin.gate(GIF.path)
    began = time.monotonic()
    try:
        # Time enough for checks that do not hang, on a busy machine too: a TLS connection that is cut has no clean end.
        checks = await lab.diagnosed(groups=("health",), deadline_s=4.0)
    finally:
        gate.open()
    assert time.monotonic() - began < 10
    hung = {check.name for check in checks if "no result within 4 s" in check.found}
    assert hung >= {"range", "portal", "clock"}
    assert any(check.name == "disk-space" and check.level == "ok" for check in checks)


def shown(checks: list[Check]) -> str:
    return "\n" + "\n".join(check.line() for check in checks if check.level != "ok")
