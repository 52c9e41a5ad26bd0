"""Who asks for what: target, service, cache key, addresses. Pure."""
