"""theworld-validate: a parity and diagnostics harness for fused models."""
