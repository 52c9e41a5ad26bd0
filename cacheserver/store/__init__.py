"""Object files, catalogue, space ledger, recovery: bytes on disk. Knows nothing of HTTP or of upstream."""
