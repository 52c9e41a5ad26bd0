"""Work that several callers share or that must run to its end: single flight, blocking calls in threads."""
