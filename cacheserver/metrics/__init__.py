"""Prometheus metrics: one table says what exists, one meter counts it, collectors show it."""
