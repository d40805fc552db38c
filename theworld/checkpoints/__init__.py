"""Checkpoints as files: read strictly, and held against configs and models."""
