"""The event log and the access log: lines, writers, summaries."""
