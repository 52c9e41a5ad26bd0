"""Background work: scrubbing, pinned content, purging. Works against ports."""
