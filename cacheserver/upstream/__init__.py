"""Sources: resolving, connecting, asking, reading answers. Knows nothing of the store or of clients."""
