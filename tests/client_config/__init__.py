"""Renderers of client settings, held against golden files and against the programs that read them."""
