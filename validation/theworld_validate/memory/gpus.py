"""GPUs by name, and what may be reserved on one.

In: a name, or a number of GiB. Out: a `Gpu`.
"""

from dataclasses import dataclass

from theworld.checkpoints.error_text import did_you_mean
from theworld_validate.memory.architectures import ADA, AMPERE, HOPPER, Architecture
from theworld_validate.results import InputError

GIB = 2**30
# What the driver reports as total, rounded down to a tenth.
GPUS = {
    "h200": (139.7, HOPPER),
    "h100-80g": (79.1, HOPPER),
    "a100-80g": (79.1, AMPERE),
    "a100-40g": (39.3, AMPERE),
    "l4": (22.0, ADA),
    "rtx4090": (23.5, ADA),
}
# The CUDA context and the libraries' code lie outside the caching allocator.
CONTEXT_BYTES = GIB
# Of the GPU's memory: what a prediction may be short by before "it fits" is wrong.
SAFETY = 0.02
MAX_GIB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU.

    Args:
        title: for people.
        gib: its memory, in GiB.
        capacity_bytes: what the caching allocator may reserve; 0 where the CUDA context leaves nothing.
        architecture: None where only its memory is known.
    """

    title: str
    gib: float
    capacity_bytes: int
    architecture: Architecture | None = None

    @property
    def about_capacity(self) -> str:
        """How `capacity_bytes` comes of the GPU's memory, in words."""
        margin, context = f"{100 * SAFETY:g} % of margin", f"{CONTEXT_BYTES / GIB:g} GiB for the CUDA context"
        return f"{self.gib:,g} GiB less {margin} and {context}"


def find_gpu(name: str) -> Gpu:
    """A GPU by its name, or by its memory in GiB.

    Raises:
        InputError: if it is neither.
    """
    from theworld.checkpoints.error_text import one_line

    gib, architecture = GPUS.get(name.lower(), (None, None))
    title = name.lower()
    if gib is None:
        try:
            gib = float(name)
        except ValueError as error:
            hint = did_you_mean(name.lower()[:100], GPUS)
            raise InputError(
                f"--gpu {one_line(name, 100)}: no such GPU; give {', '.join(GPUS)} or a number of GiB{hint}"
            ) from error
        if not 0 < gib <= MAX_GIB:
            raise InputError(f"--gpu {one_line(name, 100)}: give a number of GiB above 0, up to {MAX_GIB:,.0f}")
        title = f"{gib:g} GiB"
    return Gpu(
        title=title,
        gib=gib,
        capacity_bytes=max(int(gib * GIB * (1 - SAFETY)) - CONTEXT_BYTES, 0),
        architecture=architecture,
    )


def gpu_bytes(name: str) -> int:
    """What the caching allocator may reserve on a GPU; see `find_gpu`."""
    return find_gpu(name).capacity_bytes
