"""cacheserver: an open, verifying Connected Cache node for Delivery Optimization clients."""

__version__ = "0.1.0"
