"""Bytes to sockets: turns, rates, cuts."""
