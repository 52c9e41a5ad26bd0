"""Measurements of the node beside its peers. Nothing of the product imports this package."""
