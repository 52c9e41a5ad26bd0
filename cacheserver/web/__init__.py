"""The content and admin listeners: the only package that knows aiohttp.web."""
