"""Families with inputs of their own, one file each; see `probes.family`."""
