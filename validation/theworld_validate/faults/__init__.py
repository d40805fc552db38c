"""Faults seen in the wild, to be injected into a candidate: they prove that the checks can fail."""
