"""The whole catalogue: every group's module is imported, and so registered."""

from theworld_validate.faults import attention, load_state, numerics, runtime
from theworld_validate.faults.base import CATALOGUE, Fault

__all__ = ["CATALOGUE", "Fault", "attention", "load_state", "numerics", "runtime"]
