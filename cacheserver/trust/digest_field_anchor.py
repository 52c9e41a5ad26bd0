"""Digest fields of the origin's answer as an anchor; the grammar is ``core.integrity.digest_fields``."""

from __future__ import annotations

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.digest_fields import claim_from_fields
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.target import Target


class DigestFieldAnchor:
    """Says what the origin's own fields say.

    An answer counts as whole when it has Content-Length and no Content-Range, so that stored fields, which have
    neither, are never taken for those of a 200. It counts as authentic when the target's scheme is https: callers
    must not hand over the fields of an answer that a redirect led off TLS.
    """

    name = "digest_field"

    async def ask(self, target: Target, response: Fields) -> tuple[Claim, ...]:
        """At most one claim; see ``anchors.ClaimSource``."""
        whole = "Content-Length" in response and "Content-Range" not in response
        claim = claim_from_fields(response, https=target.scheme == "https", whole=whole)
        return () if claim is None else (claim,)
