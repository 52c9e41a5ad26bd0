"""The content and admin listeners: the only rooms that know aiohttp.web."""
