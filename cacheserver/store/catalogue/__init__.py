"""The index of a volume: object id to record, durable."""
