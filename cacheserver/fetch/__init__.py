"""A client that follows the documented Delivery Optimization workflow; a tool, not a part of the node."""
