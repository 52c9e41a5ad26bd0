"""Outgoing HTTP for every package that connects: TLS contexts, sessions, addresses. Knows no policy of addresses."""
