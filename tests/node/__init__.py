"""Black-box tests: a node in its own process between raw clients and a local origin."""
