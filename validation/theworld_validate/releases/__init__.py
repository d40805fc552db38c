"""Releases: the same checkpoint in several releases of a library, neighbours judged."""
