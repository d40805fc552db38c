"""Levers of memory: what may be switched on for a training step, and what it costs is measured elsewhere."""
