"""The whole catalogue: every group's module is imported, and so registered."""

from theworld_validate.faults import (
    any_family,
    attention,
    calls,
    files,
    generation,
    leftovers,
    load_state,
    numerics,
    runtime,
    saving,
    training,
)
from theworld_validate.faults.base import CATALOGUE, FAMILY_FAULTS, Fault

__all__ = [
    "CATALOGUE",
    "FAMILY_FAULTS",
    "Fault",
    "any_family",
    "attention",
    "calls",
    "files",
    "generation",
    "leftovers",
    "load_state",
    "numerics",
    "runtime",
    "saving",
    "training",
]
