"""The test ground: a local origin, a raw client, a node in its own process. Nothing here decides a test."""
