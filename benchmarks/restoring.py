"""What a benchmark that spoils models in its own process needs, so that the next one is not spoilt too."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def restored_globals() -> Iterator[None]:
    """Leave torch's global state as it was, whatever a variant or a fault does to it."""
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
            torch.set_num_threads(threads)
