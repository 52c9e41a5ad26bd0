"""aiohttp's errors as errors of the project.

Owns: which error a failed request becomes, and its words. Messages carry no path and no query.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from cacheserver.concurrency.awake import awake_timeout
from cacheserver.core.errors import BadAnswer, ConnectFailed, UntrustedSource, UpstreamError, UpstreamTimeout


@asynccontextmanager
async def translated(
    source: str, *, within_s: float, what: str = "source", untrusted: type[UpstreamError] = UntrustedSource
) -> AsyncIterator[None]:
    """Run a block that asks ``source``, for ``within_s`` at most. ``what`` names it in messages.

    Raises UpstreamTimeout, ``untrusted`` for a refused certificate, BadAnswer, ConnectFailed. Errors of the project go
    through.
    """
    try:
        async with awake_timeout(within_s):
            yield
    except TimeoutError as exc:
        raise UpstreamTimeout(f"{what} did not answer in time", source=source) from exc
    except aiohttp.ClientConnectorCertificateError as exc:
        raise untrusted(f"{what}'s certificate is refused: {certificate_fault(exc)}", source=source) from exc
    except (
        aiohttp.ClientResponseError,
        aiohttp.ClientPayloadError,
        aiohttp.http_exceptions.HttpProcessingError,
    ) as exc:
        raise BadAnswer(f"{what}'s answer is not HTTP", source=source) from exc
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise ConnectFailed(f"no connection to the {what} ({_reason(exc)})", source=source) from exc


def _reason(exc: Exception) -> str:
    """Why there is no connection, in the system's words; not the error's own text, which may quote a request."""
    inner = getattr(exc, "os_error", exc)
    if isinstance(inner, ssl.SSLError):
        return f"TLS failed: {(inner.reason or 'no reason given').replace('_', ' ').lower()}"
    if isinstance(inner, OSError) and (inner.errno or 0) > 0:
        return os.strerror(inner.errno or 0)
    if isinstance(exc, aiohttp.ServerDisconnectedError | ConnectionError):
        return "it was closed before an answer"
    return "it could not be used"


def certificate_fault(exc: aiohttp.ClientConnectorCertificateError) -> str:
    """Which check of a certificate failed, in OpenSSL's words."""
    return (getattr(exc.certificate_error, "verify_message", "") or "it cannot be verified").rstrip(".")
