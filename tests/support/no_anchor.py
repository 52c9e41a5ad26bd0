"""An anchor that says nothing."""

from __future__ import annotations

from cacheserver.core.fields import Fields
from cacheserver.core.target import Target
from cacheserver.core.trust import Claim


class NoAnchor:
    """See ``ports.Anchor``."""

    async def claims(self, target: Target, response: Fields) -> tuple[Claim, ...]:
        """Nothing."""
        return ()
