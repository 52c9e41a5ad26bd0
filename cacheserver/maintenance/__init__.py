"""Work behind the requests: scrubbing, pinned content, purging. Works against ports."""
