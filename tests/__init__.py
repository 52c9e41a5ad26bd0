"""The test-suite: it mirrors the package; ``node`` holds the tests that drive a running node from outside."""
