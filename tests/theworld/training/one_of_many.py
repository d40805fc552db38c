"""What one of several processes does in `test_distributed`: a run of the config, on gloo.

Run as `python one_of_many.py WAY RANK PORT CONFIG`, WAY being "ddp", "fsdp", or "alone" for a planted
fault: each process divides by its own tokens. The environment is the one that `accelerate launch` sets.
"""

import os
import sys
from typing import Any


def main(way: str, rank: str, port: str, config: str) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    import torch

    torch.set_num_threads(1)
    if way == "fsdp":
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
        os.environ |= {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_RESHARD_AFTER_FORWARD": "true"}
        _count_shards()
    if way == "alone":
        from transformers import TrainingArguments

        TrainingArguments.average_tokens_across_devices = property(lambda _: False, lambda *_: None)
    from theworld.training.__main__ import main as command

    sys.argv = ["theworld-train", config]
    command()


def _count_shards() -> None:
    """A run that is not sharded is no test of sharding."""
    from torch.distributed.fsdp import FSDPModule
    from transformers import Trainer

    clip = Trainer._clip_grad_norm

    def clip_sharded(self: Any, model: Any) -> Any:
        wrapped = sum(isinstance(module, FSDPModule) for module in self.model.modules())
        assert wrapped > 8, f"only {wrapped} modules are sharded"
        return clip(self, model)

    Trainer._clip_grad_norm = clip_sharded  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
