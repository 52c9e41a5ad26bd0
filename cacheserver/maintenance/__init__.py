"""Work behind the requests: eviction, scrubbing, recovery. Works against ports."""
