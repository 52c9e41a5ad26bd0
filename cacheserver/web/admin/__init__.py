"""The admin listener: routes, actions, status page, token."""
