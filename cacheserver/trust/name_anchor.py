"""Digests in file names as an anchor; the rule itself is ``core.integrity.name_digest``."""

from __future__ import annotations

from cacheserver.core.http.fields import Fields
from cacheserver.core.integrity.name_digest import claim_from_name
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.target import Target


class NameAnchor:
    """Says what the name of the file says."""

    name = "name"

    async def ask(self, target: Target, response: Fields) -> tuple[Claim, ...]:
        """At most one claim; see ``anchors.ClaimSource``."""
        claim = claim_from_name(target)
        return () if claim is None else (claim,)
