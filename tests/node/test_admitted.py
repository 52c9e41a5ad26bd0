"""Which addresses the operator's words permit for a host."""

from __future__ import annotations

import pytest

from cacheserver.core.request.addresses import vet_address
from cacheserver.node.admitted import Admitted
from cacheserver.settings.schema import Settings

SERVICE = {
    "hosts": ["files.example.com"],
    "sources": ["http://10.0.0.5:8080", "http://169.254.169.254", "http://[fd00::7]:80", "http://mirror.example.com"],
    "allow_addresses": ["10.1.0.0/16"],
}


@pytest.mark.parametrize(
    ("host", "address", "permitted"),
    [
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("fd00::7", "fd00::7", True),
        ("169.254.169.254", "169.254.169.254", False),
        ("mirror.example.com", "10.1.2.3", True),
        ("mirror.example.com", "10.0.0.5", False),
        ("mirror.example.com", "127.0.0.1", False),
        ("mirror.example.com", "8.8.8.8", True),
        ("files.example.com", "10.1.2.3", True),
        ("files.example.com", "10.0.0.5", False),
        ("other.example.com", "10.1.2.3", False),
    ],
)
def test_a_source_has_the_addresses_of_its_service_and_the_one_that_is_written(
    host: str, address: str, permitted: bool
) -> None:
    admitted = Admitted(Settings(services={"files": SERVICE}))
    assert vet_address(address, admitted.networks(host)) is permitted
