"""One node's lifetime and the composition root: what is built, started, reloaded and stopped."""
