"""Anchors: who can say what a content must be, and the keys that sign catalogues. Blind to store and upstream."""
