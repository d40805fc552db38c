"""The whole catalogue: every group's module is imported, and so registered."""

from theworld_validate.faults import attention, files, generation, load_state, numerics, runtime, saving, training
from theworld_validate.faults.base import CATALOGUE, Fault

__all__ = [
    "CATALOGUE",
    "Fault",
    "attention",
    "files",
    "generation",
    "load_state",
    "numerics",
    "runtime",
    "saving",
    "training",
]
