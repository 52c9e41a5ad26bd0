"""HTTP caching as RFC 9111 defines it, and the sources of an object. Pure."""
