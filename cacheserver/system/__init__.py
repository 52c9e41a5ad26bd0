"""The machine: clock, descriptors, the service manager and its sockets, files replaced as a whole."""
