"""Hashes and what they prove: manifests, digests, trust. Pure."""
