"""Tests of ``cacheserver.core.turns``."""
