"""The full path of a request: decide, plan the reply, deliver, pass, refuse."""
