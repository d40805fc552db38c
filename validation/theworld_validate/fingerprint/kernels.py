"""Which kernels torch chooses while a model is asked.

In: nothing. Out: a stretch in which kernels repeat themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deterministic_kernels(*, enabled: bool, warn_only: bool = True) -> Iterator[None]:
    """Have torch choose kernels that repeat themselves, until the block ends.

    Args:
        warn_only: go on where an operation has no such kernel, as sampling has none; memory-efficient attention
            then keeps its backward kernel that does not repeat itself.
        enabled: whether to change anything. cuDNN's attention is left out then: its results differ from run to run
            on an H200, in decoding and backward, and torch's own switch does not reach it.
    """
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_before = torch.backends.cuda.cudnn_sdp_enabled()
    if enabled:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cuda.enable_cudnn_sdp(cudnn_before)
