"""Certificates of the content listener: options, contexts, what is served now, requests for new ones."""

from cacheserver.tls.options import TlsOptions

__all__ = ["TlsOptions"]
