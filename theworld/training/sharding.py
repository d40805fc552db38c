"""DDP and FSDP2 as a stage asks for them: gradients are summed in float32, and the CPU shards as a GPU does.

In: the Accelerator that `Trainer` has made. Out: the same, its FSDP2 plugin set, where the launcher asked for one. By
itself Accelerate sums in the dtype of mixed precision, and on the CPU has copies of the model in place of shards.
"""

import os
from collections.abc import Iterable
from typing import Any

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from theworld.training.config import ConfigError

REDUCE_DTYPE = torch.float32  # in bfloat16 a sum over processes keeps 8 bits of each gradient
# Every batch gives these a gradient: one without clips goes through the branch with weight zero.
_ALWAYS_USED = {"language_model", "world_projection", "temporal_embedding"}


def may_be_unused(trainable: Iterable[str]) -> bool:
    """Whether a batch may leave some of the components that train without a gradient, so that DDP has to look."""
    return not set(trainable) <= _ALWAYS_USED


def precision_policy(compute_dtype: torch.dtype | None) -> Any:
    """FSDP2's `MixedPrecisionPolicy`.

    Args:
        compute_dtype: of weights while they are gathered, and of what a layer returns; None leaves them as they are.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=REDUCE_DTYPE, output_dtype=compute_dtype)


def is_asked() -> bool:
    """Whether the launcher asked for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def check_launcher() -> None:
    """Look at what `accelerate launch` was told.

    Raises:
        ConfigError: for FSDP's first version, or where all processes but one would load weights without values.
    """
    if not is_asked():
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError("FSDP's first version does not train in stages; launch with --fsdp_version 2")
    if os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING") == "true":
        raise ConfigError("each process loads the model itself; launch with --fsdp_cpu_ram_efficient_loading false")


def use_plugin(accelerator: Any, *, compute_dtype: torch.dtype | None) -> bool:
    """Have `accelerator.prepare` shard, where the launcher asked for it and there is a process group.

    Args:
        compute_dtype: see `precision_policy`.

    Returns:
        Whether it will.
    """
    if not is_asked() or not torch.distributed.is_initialized():
        return False
    state = accelerator.state
    if not hasattr(state, "fsdp_plugin") or state.fsdp_plugin is None:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
    state.fsdp_plugin.mixed_precision_policy = precision_policy(compute_dtype)
    state.distributed_type = DistributedType.FSDP
    return True
