"""Bytes that go to one client and are not stored."""
