"""Certificates of the content listener: options, contexts, what is served now, requests for new ones."""

from cacheserver.tls.context import load_into, server_context
from cacheserver.tls.options import TlsOptions

__all__ = ["TlsOptions", "load_into", "server_context"]
