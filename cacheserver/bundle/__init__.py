"""Export of objects into one file, and import from it: for sites without a network. Blocking, for a stopped node."""
