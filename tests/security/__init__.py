"""Attacks on a running node, one harness per row of the table that ``python -m tests.security`` prints."""
