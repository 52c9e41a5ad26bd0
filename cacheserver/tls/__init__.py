"""Certificates of the content listener: options, contexts, what is served now, requests for new ones."""
