"""Fingerprints: bit-exact digests of everything observable about one model."""
