"""The scan: what is lost when a class of a library is merely subclassed."""
