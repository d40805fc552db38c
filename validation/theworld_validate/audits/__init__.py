"""Audits of one model: buffers, parameters, gradients, globals, and the documented claims."""
