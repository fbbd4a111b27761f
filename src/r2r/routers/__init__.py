"""Routers see signals, never engines."""
