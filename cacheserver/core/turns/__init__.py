"""Whose upstream request comes next, and how many a line carries: the pure half of ``fill.slots``."""
