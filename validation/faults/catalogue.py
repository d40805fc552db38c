"""The whole catalogue: every group's module is imported, and so registered."""

from validation.faults import attention, load_state, numerics, runtime
from validation.faults.base import CATALOGUE, Fault

__all__ = ["CATALOGUE", "Fault", "attention", "load_state", "numerics", "runtime"]
