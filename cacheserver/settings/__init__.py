"""TOML and flags into frozen options; the table of services."""
