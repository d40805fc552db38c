"""What one of several processes does in `test_distributed`: a run of the config, on gloo.

Run as `python one_of_many.py WAY RANK PORT CONFIG`, WAY being "ddp", "fsdp", or "alone" for a planted
fault: each process divides by its own tokens. accelerate's launcher offers FSDP2 on
no CPU, so it is switched on where `Trainer` makes its Accelerator.
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
        _shard()
    if way == "alone":
        from transformers import TrainingArguments

        TrainingArguments.average_tokens_across_devices = property(lambda _: False, lambda *_: None)
    from theworld.training.__main__ import main as command

    sys.argv = ["theworld-train", config]
    command()


def _shard() -> None:
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import FSDPModule
    from transformers import Trainer

    create, clip = Trainer.create_accelerator_and_postprocess, Trainer._clip_grad_norm

    def create_sharded(self: Any) -> None:
        create(self)
        self.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", reshard_after_forward=True
        )
        self.accelerator.state.distributed_type = DistributedType.FSDP
        self.is_fsdp_enabled = True

    def clip_sharded(self: Any, model: Any) -> Any:
        wrapped = sum(isinstance(module, FSDPModule) for module in self.model.modules())
        assert wrapped > 8, f"only {wrapped} modules are sharded"
        return clip(self, model)

    Trainer.create_accelerator_and_postprocess = create_sharded
    Trainer._clip_grad_norm = clip_sharded  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
