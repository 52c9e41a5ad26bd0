"""Fills: one fetch per missing piece, waiters woken as bytes land. Works against ports."""
