"""Which error of the project a failed request becomes."""

from __future__ import annotations

import asyncio
import errno
import ssl
from unittest.mock import Mock

import aiohttp
import pytest

from cacheserver.core.errors import (
    AddressRefused,
    BadAnswer,
    CertificateRefused,
    ConnectFailed,
    UpstreamError,
    UpstreamTimeout,
)
from cacheserver.outgoing.faults import translated

SOURCE = "https://a.example:443"
NOT_TLS = ssl.SSLError(1, "secret")
NOT_TLS.reason = "WRONG_VERSION_NUMBER"
EXPIRED = ssl.SSLCertVerificationError("expired")
EXPIRED.verify_message = "certificate has expired."


async def outcome(raised: Exception) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        async with translated(SOURCE, within_s=10, what="trust service", untrusted=CertificateRefused):
            raise raised
    return caught.value


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (TimeoutError(), UpstreamTimeout, "trust service did not answer in time"),
        (
            aiohttp.ClientConnectorCertificateError(Mock(), EXPIRED),
            CertificateRefused,
            "trust service's certificate is refused: certificate has expired",
        ),
        (aiohttp.ClientPayloadError("secret"), BadAnswer, "trust service's answer is not HTTP"),
        (aiohttp.ClientResponseError(Mock(), ()), BadAnswer, "trust service's answer is not HTTP"),
        (aiohttp.http_exceptions.BadHttpMessage("secret"), BadAnswer, "trust service's answer is not HTTP"),
        (
            aiohttp.ServerDisconnectedError("secret"),
            ConnectFailed,
            "no connection to the trust service (it was closed before an answer)",
        ),
        (
            ConnectionResetError("secret"),
            ConnectFailed,
            "no connection to the trust service (it was closed before an answer)",
        ),
        (
            aiohttp.ClientConnectorError(Mock(), OSError(errno.EHOSTUNREACH, "secret")),
            ConnectFailed,
            "no connection to the trust service (No route to host)",
        ),
        (
            aiohttp.ClientConnectorSSLError(Mock(), NOT_TLS),
            ConnectFailed,
            "no connection to the trust service (TLS failed: wrong version number)",
        ),
        (ValueError("secret"), ConnectFailed, "no connection to the trust service (it could not be used)"),
    ],
)
async def test_each_failure_is_one_error_and_names_its_source(
    raised: Exception, error: type[UpstreamError], message: str
) -> None:
    got = await outcome(raised)
    assert (type(got), str(got), got.source) == (error, message, SOURCE)


async def test_errors_of_the_project_go_through() -> None:
    refused = AddressRefused("refused", source="b.example:80")
    assert await outcome(refused) is refused


async def test_a_block_that_takes_too_long_is_a_timeout() -> None:
    with pytest.raises(UpstreamTimeout):
        async with translated(SOURCE, within_s=0.01):
            await asyncio.Event().wait()
