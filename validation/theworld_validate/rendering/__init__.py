"""Reports for people and machines: every form is rendered from a `Report`, and everything in it may be hostile."""
