"""One object under way: its upstream requests, readers, pieces and checks."""
