"""Which units leave a full volume: S3-FIFO, ghosts, pins. Pure."""
