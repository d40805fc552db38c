"""Architectures of GPUs, and in what their memory differs from the one that predictions are of.

In: nothing. Out: data. A prediction asks for what Hopper's kernels ask for; of another architecture this says which of
them are others there, so that a report can say that it is no evidence of that one. Sources: torch 2.11 to 2.14,
aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (`check_prefer_cudnn_attention`, `priority_order`) and
aten/src/ATen/cuda/CublasHandlePool.cpp (`parseChosenWorkspaceSize`).
"""

from dataclasses import dataclass

_CUDNN = "cuDNN's"
_OTHERS = (
    "flash attention, and where there is a mask the memory-efficient kernel, whose backward pass has other scratch"
)
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A family of GPUs that run the same kernels.

    Args:
        title: for people, with the compute capability.
        attention: which kernels torch prefers for attention in bfloat16.
        workspace_bytes: that torch gives cuBLAS for each thread, unless CUBLAS_WORKSPACE_CONFIG says otherwise.
        is_measured: whether predictions were held against one.
    """

    title: str
    attention: str
    workspace_bytes: int
    is_measured: bool = False


AMPERE = Architecture(title="Ampere (sm80)", attention=_OTHERS, workspace_bytes=8 * _MIB + 128 * 1024)
ADA = Architecture(title="Ada (sm89)", attention=_OTHERS, workspace_bytes=8 * _MIB + 128 * 1024)
HOPPER = Architecture(title="Hopper (sm90)", attention=_CUDNN, workspace_bytes=32 * _MIB, is_measured=True)
