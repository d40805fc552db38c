"""Audits of one model: buffers, parameters, gradients, globals, and the claims of the first implementation notes."""
