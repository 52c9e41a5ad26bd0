"""Pure decisions: no asyncio, no I/O, no clock, no logging. Everything else may import this, it imports nothing."""
