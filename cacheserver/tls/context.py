"""The TLS context of the content listener, and putting another certificate into it while it runs.

Owns: the swap. Plain functions without state of the node, for every process that listens. Clients of Delivery
Optimization look header fields up by case, and over HTTP/2 names are lower case, so that h2 is never offered.

The listening context holds no certificate itself. Each pair gets a context of its own, to which every new handshake is
handed over: a context that is loaded a second time would keep the certificate of another key type beside the new one.
Ticket keys stay those of the listening context, so that sessions can be resumed across a change.
"""

from __future__ import annotations

import ssl

from cacheserver.tls.facts import CertificateFacts
from cacheserver.tls.options import TlsOptions
from cacheserver.tls.pair import Pair, policy_context, read_pair


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """A new listening context with the files of ``options``. ConfigError with the reason when they cannot be used."""
    context = policy_context()
    load_into(context, options)
    return context


def load_into(context: ssl.SSLContext, options: TlsOptions) -> CertificateFacts:
    """Read the files for a running context: new handshakes use them, connections go on. ConfigError on trouble."""
    pair = read_pair(options)
    hand_over(context, pair)
    return pair.facts


def hand_over(context: ssl.SSLContext, pair: Pair) -> None:
    """From now on every handshake on ``context`` gets the certificate of ``pair``; may be called in any thread."""

    def choose(handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = pair.context

    context.sni_callback = choose  # called for clients that name no server, too
