"""The doctor against a healthy lab, and against labs with one fault each."""
